"""Who runs on a network is not cut off by its restart: plugged into the new bridge, and named by the plan before."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import libvirt
import pytest
from flaky import Flaky, Fuse, Killed
from harness import MAIN, Guest, Project, idle, resource
from lxml import etree
from trouble import inside

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.host import Host
from kvmstate.manifest import load
from kvmstate.plan import Options

pytestmark = pytest.mark.real

FOREIGN = """<domain type='qemu'><name>theirs</name><memory>32768</memory><os><type>hvm</type></os><devices>
<interface type='network'><source network='lan' portgroup='staff'/></interface>
<interface type='bridge'><source bridge='kvlan0'/><model type='virtio'/></interface>
<interface type='network'><source network='other'/></interface>
</devices></domain>"""
OTHER = "<network><name>other</name><bridge name='kvother0'/></network>"
NOW = {"restart": "now"}
STAFF = {"xml": {"./portgroup/@name": "staff"}}
AGAIN = "the running machines own, theirs are plugged in again"
SEED = int(os.environ.get("KVMSTATE_SEED", "1"))
KILLS = int(os.environ.get("KVMSTATE_RESTART_KILLS", "1"))

# with which dnsmasq does not start
NONE = "no-such-option"


def lan(lifecycle: dict[str, Any] | None = None, bridge: str = "kvlan0", **spec: Any) -> dict[str, Any]:
    ranges = [{"start": "192.168.90.9", "end": "192.168.90.99"}]
    ips = [{"address": "192.168.90.1/24", "dhcp": {"ranges": ranges}}]
    return resource("Network", "lan", lifecycle, bridge={"name": bridge}, **{"ips": ips, **STAFF, **spec})


def own(**spec: Any) -> dict[str, Any]:
    return idle("own", interfaces=[{"network": "lan"}], **spec)


def with_foreign(project: Project, connection: libvirt.virConnect) -> None:
    """A machine of the project's and one of somebody else's run on the network."""
    project.converge(lan(), own())
    connection.networkDefineXML(OTHER).create()
    connection.createXML(FOREIGN)


def interfaces(connection: libvirt.virConnect, name: str) -> list[etree._Element]:
    return etree.fromstring(connection.lookupByName(name).XMLDesc()).findall("devices/interface")


def taps(connection: libvirt.virConnect) -> dict[str, list[str]]:
    """By network or bridge, as the running machines say."""
    found: dict[str, list[str]] = {}
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        for nic in interfaces(connection, domain.name()):
            source = nic.find("source")
            found.setdefault(source.get("bridge"), []).append(nic.find("target").get("dev"))
    return {bridge: sorted(devices) for bridge, devices in found.items()}


def in_bridge(project: Project, bridge: str = "kvlan0") -> list[str]:
    said = project.host.directory / "ports"
    inside(project.host, f"ls /sys/class/net/{bridge}/brif >{said}")
    return sorted(said.read_text().split())


def all_plugged(project: Project, connection: libvirt.virConnect) -> bool:
    return all(in_bridge(project, bridge) == devices for bridge, devices in taps(connection).items())


def test_a_restart_plugs_everybody_in_again_and_the_plan_names_them(
    project: Project, connection: libvirt.virConnect
) -> None:
    with_foreign(project, connection)
    before = {name: connection.lookupByName(name).ID() for name in ("own", "theirs")}
    xml = [[etree.tostring(nic.find("source")).split(b"portid")[0] for nic in interfaces(connection, "theirs")]]
    project.write(lan(NOW, mtu=1400), own())
    assert AGAIN in project.plan().out
    told = json.loads(project.kvmstate("plan", "--json").out)["resource_changes"]
    assert AGAIN in next(change for change in told if change["address"] == "network/lan")["action_reason"]
    assert AGAIN in project.kvmstate("plan", "--markdown").out
    project.converge()
    assert len(in_bridge(project)) == 3
    assert all_plugged(project, connection)
    assert {name: connection.lookupByName(name).ID() for name in ("own", "theirs")} == before
    xml.append([etree.tostring(nic.find("source")).split(b"portid")[0] for nic in interfaces(connection, "theirs")])
    assert xml[0] == xml[1]


def test_a_guest_is_reached_again(project: Project, connection: libvirt.virConnect, tiny: Guest) -> None:
    machine = tiny.machine("web", interfaces=[{"network": "lan"}])
    project.converge(lan(), machine)
    address = tiny.says(r"nics=[^ ,]*=(192\.168\.90\.\d+) ")[1]
    boot = tiny.boot()
    # nobody listens there: the guest itself says so; a bridge with STP takes seconds to pass the first packets on
    tries = f'import socket; socket.create_connection(("{address}", 9), 20)'
    knock = f"for i in 1 2 3 4 5; do python3 -c '{tries}' 2>&1 | grep -q refused && exit; done; exit 1"
    inside(project.host, knock)
    project.converge(lan(NOW, mtu=1400), machine)
    inside(project.host, knock)
    assert tiny.boot() == boot


def test_a_network_that_somebody_stopped_or_deleted_comes_back_with_its_machines(
    project: Project, connection: libvirt.virConnect
) -> None:
    with_foreign(project, connection)
    for deleted in (False, True):
        network = connection.networkLookupByName("lan")
        network.destroy()
        if deleted:
            network.undefine()
        assert AGAIN in project.plan().out
        project.converge()
        assert len(in_bridge(project)) == 3
        assert all_plugged(project, connection)


def test_a_bridge_of_another_name_takes_the_machines_along(project: Project, connection: libvirt.virConnect) -> None:
    with_foreign(project, connection)
    project.converge(lan(NOW, bridge="kvlan1"), own())
    assert len(in_bridge(project, "kvlan1")) == 3
    assert all_plugged(project, connection)


def test_a_renamed_network_takes_its_running_machines_along(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(lan(), own())
    file = project.folder / "kvmstate.yaml"
    file.write_text(file.read_text() + "moved: [{from: network/lan, to: network/office}]\n")
    office = lan(NOW)
    office["metadata"]["name"] = "office"
    project.write(office, idle("own", interfaces=[{"name": "lan", "network": "office"}]))
    assert "the running machine own is plugged in again" in project.plan("--prune").out
    project.converge(options=("--prune",))
    assert all_plugged(project, connection)
    assert interfaces(connection, "own")[0].find("source").get("network") == "office"


def test_a_network_that_strangers_name_is_not_renamed(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(lan())
    connection.networkDefineXML(OTHER).create()
    connection.defineXML(FOREIGN)
    file = project.folder / "kvmstate.yaml"
    file.write_text(file.read_text() + "moved: [{from: network/lan, to: network/office}]\n")
    office = lan(NOW)
    office["metadata"]["name"] = "office"
    project.write(office)
    assert "blocked: network/lan cannot be renamed: the machine theirs would look for it in vain" in project.plan().out
    connection.lookupByName("theirs").undefine()
    project.converge(options=("--prune",))


def test_what_does_not_start_any_more_runs_again_as_before(project: Project, connection: libvirt.virConnect) -> None:
    with_foreign(project, connection)
    network = connection.networkLookupByName("lan")
    before = network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    project.write(lan(NOW, bridge="kvlan1", mtu=1400, dnsmasqOptions=[NONE]), own())
    failed = project.apply()
    assert failed.code == 1
    assert "dnsmasq" in failed.out
    assert "the network runs again as it did before" in failed.out
    assert network.isActive()
    assert network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE) == before
    assert len(in_bridge(project)) == 3
    assert all_plugged(project, connection)
    assert "restarts now" in project.plan().out
    project.converge(lan(), own())


def test_a_rename_that_does_not_start_is_taken_back(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(lan(), own())
    file = project.folder / "kvmstate.yaml"
    plain = file.read_text()
    file.write_text(plain + "moved: [{from: network/lan, to: network/office}]\n")
    office = lan(NOW, bridge="kvlan1", dnsmasqOptions=[NONE])
    office["metadata"]["name"] = "office"
    machine = idle("own", interfaces=[{"name": "lan", "network": "office"}])
    project.write(office, machine)
    failed = project.apply("--prune")
    assert failed.code == 1
    assert "the network runs again as it did before" in failed.out
    assert [network.name() for network in connection.listAllNetworks()] == ["lan"]
    assert all_plugged(project, connection)
    del office["spec"]["dnsmasqOptions"]
    project.converge(office, machine, options=("--prune",))
    assert [network.name() for network in connection.listAllNetworks()] == ["office"]
    assert in_bridge(project, "kvlan1")


def test_a_run_that_is_killed_anywhere_in_a_restart_is_finished_by_the_next(
    project: Project, connection: libvirt.virConnect
) -> None:
    with_foreign(project, connection)
    kills = 0
    for at in range(1, 40):
        mtu = 1400 + at
        project.write(lan(NOW, mtu=mtu), own())
        resources = load([project.folder / "manifests.yaml"]).resources
        # before and after in turn: each call is met either way over the loop of two calls
        host = Host(Flaky(connection, Fuse(at, before=at % 2 == 1)), project.uri)
        try:
            session = Session(host, open_store(host, project.name), resources)
            session.apply(session.plan(Options()), Options(), lambda event: None)
        except Killed:
            kills += 1
            # nor is the network free to go meanwhile
            looking = Host(connection, project.uri)
            users = looking.uses.of_network("lan")
            looking.uses.close()
            assert {user.id.name for user in users} == {"own", "theirs"}, at
        else:
            break
        with suppress(AssertionError):
            project.apply()
        project.converge()
        assert len(in_bridge(project)) == 3, at
        assert all_plugged(project, connection), at
        assert {network.name() for network in connection.listAllNetworks()} == {"lan", "other"}, at
    assert kills > 10


@pytest.mark.timeout(300 + 60 * KILLS)
def test_after_kill_9_at_any_moment_of_a_restart_the_next_apply_plugs_all_in(
    project: Project, connection: libvirt.virConnect
) -> None:
    """Every other restart is one that fails, and would bring the old network back."""
    with_foreign(project, connection)
    chance, killed, turn, took = random.Random(SEED), 0, 0, 0.0
    command = [sys.executable, "-c", MAIN, "apply", str(project.folder), "--auto-approve"]
    while killed < KILLS:
        turn += 1
        broken = {"dnsmasqOptions": [NONE]} if turn % 2 else {}
        project.write(lan(NOW, mtu=1400 + turn, **broken), own())
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # nothing happens while Python starts
            process.wait(chance.uniform(took / 4, took) if took else None)
            took = time.monotonic() - began
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        at = f"turn {turn} of seed {SEED}"
        project.converge(lan(NOW, mtu=1400 + turn), own())
        assert len(in_bridge(project)) == 3, at
        assert all_plugged(project, connection), at
        assert {network.name() for network in connection.listAllNetworks()} == {"lan", "other"}, at


def test_stopping_a_network_that_machines_run_on_wants_to_be_meant(
    project: Project, connection: libvirt.virConnect
) -> None:
    with_foreign(project, connection)
    project.write(lan(active=False), own(state="stopped"))
    refused = project.plan().out
    assert "blocked: stopping it would cut off the running machine theirs" in refused
    project.write(lan(NOW, active=False), own(state="stopped"))
    assert "(cuts off the running machine theirs)" in project.plan().out
    project.converge()
    assert not connection.networkLookupByName("lan").isActive()
    project.converge(lan(), own(state="stopped"))
    assert len(in_bridge(project)) == 2


def test_ports_are_isolated_as_their_network_says_after_its_restart(
    project: Project, connection: libvirt.virConnect
) -> None:
    def isolated() -> list[str]:
        said = project.host.directory / "isolated"
        ports = " ".join(nic.find("target").get("dev") for nic in interfaces(connection, "own"))
        inside(project.host, f"for n in {ports}; do cat /sys/class/net/$n/brport/isolated; done >{said}")
        return said.read_text().split()

    machine = idle(
        "own", interfaces=[{"name": "a", "network": "lan"}, {"name": "b", "network": "lan", "isolated": True}]
    )
    project.converge(lan(NOW), machine)
    assert isolated() == ["0", "1"]
    project.converge(lan(NOW, isolated=True), machine)
    assert isolated() == ["1", "1"]
    project.converge(lan(NOW), machine)
    assert isolated() == ["0", "1"]


def test_a_network_of_the_hosts_own_bridge_restarts_without_touching_anybody(
    project: Project, connection: libvirt.virConnect
) -> None:
    inside(project.host, "ip link add kvhost0 type bridge && ip link set kvhost0 up")
    try:
        direct = resource("Network", "direct", NOW, forward={"mode": "bridge"}, bridge={"name": "kvhost0"})
        machine = idle("own", interfaces=[{"network": "direct"}])
        project.converge(direct, machine)
        direct["spec"]["xml"] = STAFF["xml"]
        project.write(direct, machine)
        assert "plugged" not in project.plan().out
        project.converge()
        assert len(in_bridge(project, "kvhost0")) == 1
        # nor does another one that is made over it
        second = resource("Network", "second", forward={"mode": "bridge"}, bridge={"name": "kvhost0"})
        project.write(direct, machine, second)
        assert "plugged" not in project.plan().out
        project.converge()
        project.write()
        project.kvmstate("destroy", "--auto-approve")
    finally:
        inside(project.host, "ip link delete kvhost0")
