"""The kind HostInterface with NetworkManager, over ssh: what cuts the connection is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bonds import NOW, addresses, bond_lives, vlan_lives
from harness import Project, kvmstate, resource, until
from lab_host import Lab

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def managed(lab: Lab) -> Iterator[Lab]:
    """With NetworkManager, and two pairs of devices of nobody's."""
    ran = lab.run("nmcli -t -f RUNNING general", check=False) == "running"
    if not ran:
        lab.run("systemctl start NetworkManager && nm-online -s -q")
    lab.run(
        "for n in 1 2; do ip link add kvp$n type veth peer name kvq$n; ip link set kvq$n up; ip link set kvp$n up; done"
    )
    yield lab
    lab.run("nmcli -t -f NAME connection | grep ^kv | xargs -r -d '\\n' nmcli connection delete", check=False)
    lab.run("ip link delete kvp1; ip link delete kvp2", check=False)
    if not ran:
        lab.run("systemctl stop NetworkManager")


@pytest.fixture
def project(managed: Lab, tmp_path: Path) -> Project:
    return Project(managed.uri, tmp_path / "shop", "hostif")


def bridge(*ports: str, address: str = "192.0.2.10/24") -> dict[str, Any]:
    of = {"stp": False, "delay": 2, "ports": [{"name": name} for name in ports]}
    return resource("HostInterface", "kvbr0", NOW, type="bridge", bridge=of, ipv4={"addresses": [address]}, mtu=1400)


def test_a_bridge_comes_changes_and_goes(project: Project, managed: Lab) -> None:
    project.converge(bridge("kvp1"))
    shown = managed.run("ip -br addr show kvbr0; ip -d link show kvp1; cat /sys/class/net/kvbr0/mtu")
    assert "192.0.2.10/24" in shown
    assert "master kvbr0" in shown
    assert shown.endswith("1400")
    project.converge(bridge("kvp2", address="192.0.2.20/24"))
    shown = managed.run("ip -br addr show kvbr0; ip link show master kvbr0")
    assert "192.0.2.20/24" in shown
    assert "kvp2" in shown
    assert "kvp1" not in shown
    managed.run("nmcli connection modify kvbr0 bridge.stp yes")
    assert "bridge.stp" in project.kvmstate("drift").out
    project.converge()
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert managed.run("ip link show kvbr0", check=False).endswith("does not exist.")
    assert "kvbr0" not in managed.run("nmcli -t -f NAME connection")


def test_one_that_does_not_come_up_leaves_all_as_it_was(project: Project, managed: Lab) -> None:
    """Nobody answers to its DHCP requests."""
    project.converge(bridge("kvp1"))
    waits = bridge("kvp1") | {"spec": {**bridge("kvp1")["spec"], "ipv4": {"dhcp": {}}}}
    project.write(waits)
    failed = project.apply()
    assert failed.code == 1
    assert "NetworkManager has gone back to what there was before" in failed.err
    until(lambda: addresses(managed, "kvbr0") == {"192.0.2.10/24"}, "what is brought back is up")
    project.converge(bridge("kvp1"))
    assert project.kvmstate("destroy", "--auto-approve").code == 0


def test_a_bond_comes_changes_fails_and_goes(project: Project, managed: Lab) -> None:
    failed = bond_lives(project, managed, "nmcli connection modify kvbond0 +bond.options miimon=300")
    assert "NetworkManager has gone back to what there was before" in failed.err
    assert "kvbond0" not in managed.run("nmcli -t -f NAME connection")


def test_a_vlan_comes_changes_fails_and_goes(project: Project, managed: Lab) -> None:
    failed = vlan_lives(project, managed, "nmcli connection modify kvvlan0 802-3-ethernet.mtu 1300")
    assert "NetworkManager has gone back to what there was before" in failed.err
    names = managed.run("nmcli -t -f NAME connection")
    assert "kvvlan0" not in names
    assert "kvbond0" not in names


def test_what_cuts_its_own_connection_is_taken_back(project: Project, managed: Lab, tmp_path: Path) -> None:
    server = managed.run("echo $SSH_CONNECTION").split()[2]
    device = managed.run(f"ip -br addr | grep -F {server}/").split()[0].partition("@")[0]
    if device not in managed.run("nmcli -t -f DEVICE,NAME connection show --active | grep -v :lo"):
        pytest.skip(f"NetworkManager does not keep {device}, which the connection comes through")
    project.write(bridge("kvp1", device))
    planned = project.plan()
    assert f"you are connected through {device}; takes {device}, which has {server}" in planned.out
    failed = project.apply()
    assert failed.code == 1
    assert "NetworkManager has gone back by itself to what there was before" in failed.err
    assert f"{server}/" in managed.run(f"ip -br addr show {device}")
    assert "kvbr0" not in managed.run("nmcli -t -f NAME connection")


def test_profiles_that_are_there_are_taken_over(managed: Lab, tmp_path: Path) -> None:
    managed.run(
        "nmcli connection add type bridge ifname kvbr1 con-name kvbr1 bridge.stp no ipv4.method disabled "
        "ipv6.method disabled connection.autoconnect no"
    )
    folder = tmp_path / "taken"
    taken = kvmstate("import", "interface/kvbr1", "-c", managed.uri, "-o", str(folder), "--project", "taken")
    assert taken.code == 0, taken
    text = (folder / "interfaces/kvbr1.yaml").read_text()
    assert "remainder" not in text
    assert kvmstate("plan", str(folder), "-c", managed.uri).code == 0
    assert kvmstate("destroy", "--auto-approve", str(folder), "-c", managed.uri).code == 0
