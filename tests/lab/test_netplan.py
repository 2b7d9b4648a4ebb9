"""The kind HostInterface with netplan and systemd-networkd, over ssh: what cuts the connection is taken back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bonds import bond_lives, vlan_lives
from harness import Project, Run, kvmstate, until
from lab_host import Lab
from test_network_manager import bridge

pytestmark = pytest.mark.timeout(900)
# the connection that the tests come by
OWN = """# of the lab
network:
  version: 2
  ethernets:
    {device}:
      # QEMU gives it by DHCP, too
      addresses: [{address}]
      routes:
        - {{to: default, via: 10.0.2.2}}
"""


@pytest.fixture(scope="module")
def device(lab: Lab) -> str:
    server = lab.run("echo $SSH_CONNECTION").split()[2]
    return lab.run(f"ip -br addr | grep -F {server}/").split()[0].partition("@")[0]


@pytest.fixture(scope="module")
def managed(lab: Lab, device: str) -> Iterator[Lab]:
    """With netplan, which has the card that leads to it, and two pairs of devices of nobody's."""
    ran = lab.run("systemctl is-active NetworkManager", check=False) == "active"
    [address] = [word for word in lab.run(f"ip -4 -br addr show {device}").split() if "/" in word]
    lab.put("/etc/netplan/01-lab.yaml", OWN.format(device=device, address=address).encode())
    lab.run(
        f"chmod 600 /etc/netplan/*; systemctl stop NetworkManager; ip addr flush dev {device}; netplan apply; "
        "for n in 1 2; do ip link add kvp$n type veth peer name kvq$n; ip link set kvq$n up; done"
    )
    yield lab
    lab.run("rm -f /etc/netplan/*.yaml /run/netplan/*; ip link delete kvp1; ip link delete kvp2", check=False)
    lab.run("netplan generate; systemctl stop systemd-networkd.socket systemd-networkd", check=False)
    if ran:
        lab.run("systemctl start NetworkManager")


@pytest.fixture
def project(managed: Lab, tmp_path: Path) -> Project:
    return Project(managed.uri, tmp_path / "shop", "hostif")


def files(lab: Lab) -> str:
    return lab.run("cd /etc/netplan; ls; cat *; ls -A /run/netplan 2>/dev/null || :")


def test_a_bridge_comes_changes_and_goes(project: Project, managed: Lab) -> None:
    before = files(managed)
    project.converge(bridge("kvp1"))
    shown = managed.run("ip -br addr show kvbr0; ip -d link show kvp1; cat /sys/class/net/kvbr0/mtu")
    assert "192.0.2.10/24" in shown
    assert "master kvbr0" in shown
    assert shown.endswith("1400")
    index = managed.run("cat /sys/class/net/kvbr0/ifindex")
    project.converge(bridge("kvp2", address="192.0.2.20/24"))
    shown = managed.run("ip -br addr show kvbr0; ip link show master kvbr0")
    assert "192.0.2.20/24" in shown
    assert "192.0.2.10/24" not in shown
    assert "kvp2" in shown
    assert "kvp1" not in shown
    # guests that are plugged into it stay there
    assert managed.run("cat /sys/class/net/kvbr0/ifindex") == index
    managed.run("sed -i 's/stp: false/stp: true/' /etc/netplan/90-kvmstate-kvbr0.yaml")
    assert "bridge.stp" in project.kvmstate("drift").out
    project.converge()
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert managed.run("ip link show kvbr0", check=False).endswith("does not exist.")
    assert files(managed) == before


def test_one_that_does_not_come_up_leaves_all_as_it_was(project: Project, managed: Lab) -> None:
    """Nobody answers to its DHCP requests."""
    project.converge(bridge("kvp1"))
    before = files(managed)
    project.write(bridge("kvp1") | {"spec": {**bridge("kvp1")["spec"], "ipv4": {"dhcp": {}}}})
    failed = project.apply()
    assert failed.code == 1
    assert "kvbr0 does not come up" in failed.err
    assert "netplan has what there was before" in failed.err
    assert "192.0.2.10/24" in managed.run("ip -br addr show kvbr0")
    assert files(managed) == before
    project.converge(bridge("kvp1"))
    assert project.kvmstate("destroy", "--auto-approve").code == 0


@pytest.mark.parametrize(
    ("lives", "drift"),
    [
        (bond_lives, "s/mii-monitor-interval: 200/mii-monitor-interval: 300/' /etc/netplan/90-kvmstate-kvbond0.yaml"),
        (vlan_lives, "s/mtu: 1400/mtu: 1300/' /etc/netplan/90-kvmstate-kvvlan0.yaml"),
    ],
)
def test_bonds_and_vlans_come_change_fail_and_go(
    project: Project, managed: Lab, lives: Callable[[Project, Lab, str], Run], drift: str
) -> None:
    before = files(managed)
    failed = lives(project, managed, f"sed -i '{drift}")
    assert "netplan has what there was before" in failed.err
    assert files(managed) == before


def test_a_device_of_somebody_elses_is_not_taken(project: Project, managed: Lab) -> None:
    managed.run("ip link add kvbr0 type bridge")
    before = files(managed)
    try:
        project.write(bridge("kvp1"))
        failed = project.apply()
        assert failed.code == 1
        assert "the host has a device kvbr0, which netplan has not made" in failed.err
        assert files(managed) == before
    finally:
        managed.run("ip link delete kvbr0")


def test_what_cuts_its_own_connection_is_taken_back(project: Project, managed: Lab, device: str) -> None:
    """The bridge takes the card, and gives its address to nobody."""
    address = managed.run(f"ip -4 -br addr show {device}").split()[2]
    before = files(managed)
    project.write(bridge("kvp1", device))
    planned = project.plan()
    assert f"you are connected through {device}; takes {device}, which has {address}" in planned.out
    failed = project.apply()
    assert failed.code == 1
    assert "netplan has what there was before" in failed.err
    assert address in managed.run(f"ip -br addr show {device}")
    assert managed.run("ip link show kvbr0", check=False).endswith("does not exist.")
    assert files(managed) == before


def test_it_is_taken_back_also_when_kvmstate_is_killed(project: Project, managed: Lab, device: str) -> None:
    address = managed.run(f"ip -4 -br addr show {device}").split()[2]
    before = files(managed)
    project.write(bridge("kvp1", device))
    running = project.start_apply()
    until(lambda: "files" in managed.run("ls /run/kvmstate-netplan", check=False), "a transaction", 120)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    there = "ls -d /run/kvmstate-netplan /run/kvmstate-netplan.undo 2>/dev/null | wc -l"
    until(lambda: managed.run(there) == "0", "what there was", 180)
    assert address in managed.run(f"ip -br addr show {device}")
    assert managed.run("ip link show kvbr0", check=False).endswith("does not exist.")
    assert files(managed) == before
    assert project.plan().code == 2


def test_the_card_that_leads_here_becomes_a_port_and_leaves_again(project: Project, managed: Lab, device: str) -> None:
    """With its address on the bridge, and its gateway: the connection stays."""
    address = managed.run(f"ip -4 -br addr show {device}").split()[2]
    before = files(managed)
    ours = bridge(device, address=address)
    ours["spec"]["ipv4"]["gateway"] = "10.0.2.2"
    project.converge(ours)
    said = files(managed)
    assert f"#kvmstate port of kvbr0:       addresses: [{address}]" in said
    assert managed.run("ip -br link show master kvbr0").startswith(device)
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert files(managed) == before
    assert address in managed.run(f"ip -br addr show {device}")


def test_definitions_that_are_there_are_taken_over(managed: Lab, tmp_path: Path) -> None:
    theirs = "network:\n  version: 2\n  bridges:\n    kvbr1: {parameters: {stp: false, priority: 9}, optional: true}\n"
    managed.put("/etc/netplan/50-theirs.yaml", theirs.encode())
    managed.run("chmod 600 /etc/netplan/*; netplan apply")
    folder = tmp_path / "taken"
    taken = kvmstate("import", "interface/kvbr1", "-c", managed.uri, "-o", str(folder), "--project", "taken")
    assert taken.code == 0, taken
    assert "remainder" not in (folder / "interfaces/kvbr1.yaml").read_text()
    assert kvmstate("plan", str(folder), "-c", managed.uri).code == 0
    assert kvmstate("destroy", "--auto-approve", str(folder), "-c", managed.uri).code == 0
    assert "#kvmstate kvbr1 was: " in managed.run("cat /etc/netplan/50-theirs.yaml; rm /etc/netplan/50-theirs.yaml")
