"""The kind HostInterface with libvirt's own interface driver: its test driver defines, and has transactions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, kvmstate, resource
from lxml import etree

from kvmstate.sandbox import Sandbox

YES = "--auto-approve"
NOW = {"restart": "now"}


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    """The test driver's host lives as long as somebody is connected."""
    opened = libvirt.open("test:///default")
    # of tests before, whose host lives on
    for each in opened.listAllInterfaces(0):
        if each.name() != "eth1":
            each.undefine()
    for machine in opened.listAllDomains():
        if machine.name() != "test":
            machine.isActive() and machine.destroy()
            machine.undefine()
    yield opened
    opened.close()


@pytest.fixture
def project(connection: libvirt.virConnect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Project("test:///default", tmp_path / "shop")


def bond(mode: str = "active-backup", lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    of = {"mode": mode, "miimon": {"freq": 100}, "ports": [{"name": "eth2"}, {"name": "eth3"}]}
    return resource("HostInterface", "bond0", lifecycle, type="bond", bond=of, **spec)


def bridge(*ports: str, **spec: Any) -> dict[str, Any]:
    of = {"stp": False, "delay": 0.5, "ports": [{"name": name} for name in ports]}
    return resource("HostInterface", "br0", NOW, **{"type": "bridge", "bridge": of, **spec})


def xml(connection: libvirt.virConnect, name: str) -> etree._Element:
    return etree.fromstring(connection.interfaceLookupByName(name).XMLDesc(0))


def names(connection: libvirt.virConnect) -> list[str]:
    return sorted(each.name() for each in connection.listAllInterfaces(0))


def test_all_that_one_may_say_is_defined_and_up(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(
        bridge(
            "eth4",
            start="onboot",
            mtu=1400,
            ipv4={"addresses": ["192.0.2.10/24", "192.0.2.11/24"], "gateway": "192.0.2.1"},
            ipv6={"autoconf": True, "dhcp": {}, "addresses": ["fd00::10/64"], "gateway": "fd00::1"},
        ),
        bond(start="none", ipv4={"dhcp": {"peerDns": False}}),
        resource("HostInterface", "bond0.7", type="vlan", vlan={"tag": 7, "interface": "bond0"}, active=False),
    )
    assert [connection.interfaceLookupByName(name).isActive() for name in ("br0", "bond0", "bond0.7")] == [1, 1, 0]
    said = xml(connection, "br0")
    assert [each.get("address") for each in said.iterfind("protocol[@family='ipv4']/ip")] == [
        "192.0.2.10",
        "192.0.2.11",
    ]
    assert said.find("protocol[@family='ipv6']/route").get("gateway") == "fd00::1"
    assert dict(said.find("bridge").attrib) == {"stp": "off", "delay": "0.5"}
    assert xml(connection, "bond0").find("bond/miimon").get("freq") == "100"
    assert xml(connection, "bond0").find("protocol/dhcp").get("peerdns") == "no"
    assert xml(connection, "bond0.7").find("vlan/interface").get("name") == "bond0"
    # what was there is nobody's
    assert "eth1" in names(connection)
    assert project.kvmstate("status").out.count("HostInterface") == 0


def test_a_change_needs_leave_and_shows_its_cost(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(bond())
    project.write(bond("802.3ad"))
    planned = project.plan()
    assert "bond.mode" in planned.out
    assert "blocked: bond.mode would take it down for a moment" in planned.out
    assert "lifecycle.restart: now" in planned.out
    assert xml(connection, "bond0").find("bond").get("mode") == "active-backup"
    project.converge(bond("802.3ad", NOW))
    assert xml(connection, "bond0").find("bond").get("mode") == "802.3ad"
    assert connection.interfaceLookupByName("bond0").isActive()


def test_what_is_changed_by_hand_is_drift(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(bridge("eth4"))
    other = connection.interfaceLookupByName("br0").XMLDesc(0).replace("eth4", "eth5")
    connection.interfaceDefineXML(other, 0)
    assert "interface/br0" in project.kvmstate("drift").out
    project.converge(bridge("eth4"))
    connection.interfaceLookupByName("br0").destroy(0)
    project.converge(bridge("eth4"))
    assert connection.interfaceLookupByName("br0").isActive()


def test_what_fails_changes_nothing(project: Project, connection: libvirt.virConnect) -> None:
    """The driver refuses the definition when the interface is down for it."""
    project.converge(bridge("eth4"))
    before = connection.interfaceLookupByName("br0").XMLDesc(0)

    project.write(bridge("eth4", "eth5", xml={"mtu/@size": "many"}))
    failed = project.apply()
    assert failed.code == 1
    assert "libvirt has brought the host's interfaces back as they were" in failed.err
    assert connection.interfaceLookupByName("br0").XMLDesc(0) == before
    assert connection.interfaceLookupByName("br0").isActive()
    project.converge(bridge("eth4", "eth5"))


def test_somebody_elses_transaction_is_waited_for_by_people(project: Project, connection: libvirt.virConnect) -> None:
    connection.changeBegin(0)
    project.write(bridge("eth4"))
    failed = project.apply()
    assert failed.code == 1
    assert "virsh iface-rollback" in failed.out
    assert names(connection) == ["eth1"]
    connection.changeRollback(0)
    project.converge(bridge("eth4"))


def test_what_is_in_use_is_not_taken_down(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(bridge("eth4"), bond())
    network = connection.networkDefineXML(
        "<network><name>office</name><forward mode='bridge'/><bridge name='br0'/></network>"
    )
    vlan = "<start mode='none'/><vlan tag='7'><interface name='bond0'/></vlan>"
    connection.interfaceDefineXML(f"<interface type='vlan' name='v7'>{vlan}</interface>", 0)
    project.write()
    planned = project.plan("--prune", "--allow-empty")
    assert "blocked: in use by network office" in planned.out
    assert "blocked: in use by host interface v7" in planned.out
    network.undefine()
    connection.interfaceLookupByName("v7").undefine()
    assert project.apply("--prune", "--allow-empty").code == 0
    assert names(connection) == ["eth1"]


def test_who_needs_one_comes_after_it(project: Project, connection: libvirt.virConnect) -> None:
    """In the order of their names a bridge of the project's would come too late."""
    office = resource("Network", "a-office", forward={"mode": "bridge"}, bridge={"name": "br0"})
    project.converge(office, bridge("bond0"), bond())
    shown = project.kvmstate("graph").out
    assert '"network/a-office" -> "interface/br0"' in shown
    assert '"interface/br0" -> "interface/bond0"' in shown
    assert "eth2" not in shown
    destroyed = project.kvmstate("destroy", YES)
    assert destroyed.code == 0, destroyed
    assert names(connection) == ["eth1"]


def test_one_is_imported_by_its_name_alone(project: Project, connection: libvirt.virConnect, tmp_path: Path) -> None:
    every = kvmstate("import", "--all", "-c", project.uri, "-o", str(tmp_path / "all"), "--project", "every")
    assert "interfaces" not in every.out
    folder = tmp_path / "one"
    one = kvmstate("import", "interface/eth1", "-c", project.uri, "-o", str(folder), "--project", "one")
    assert one.code == 0, one
    text = (folder / "interfaces/eth1.yaml").read_text()
    assert "192.168.0.5/24" in text
    assert "remainder" not in text
    assert kvmstate("plan", str(folder), "-c", project.uri).code == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"type": "vlan"}, "one of type vlan says vlan"),
        ({"type": "ethernet", "bond": {}}, "it is of type ethernet, which has no bond"),
        ({"type": "vlan", "vlan": {"tag": 4095, "interface": "eth1"}}, "must be at most 4094"),
        ({"type": "ethernet", "ipv4": {"addresses": ["fd00::1/64"]}}, "not an address of IPv4"),
        ({"type": "bridge", "bridge": {"ports": [{"name": "a name"}]}}, "ports"),
    ],
)
def test_what_no_host_can_have(project: Project, spec: dict[str, Any], said: str) -> None:
    project.write(resource("HostInterface", "one", **spec))
    refused = project.kvmstate("validate")
    assert refused.code == 1
    assert said in refused.out + refused.err


@pytest.mark.real
def test_where_nobody_configures_the_host_the_plan_says_what_to_install(host: Sandbox, tmp_path: Path) -> None:
    """libvirt's driver there tells only what there is."""
    project = Project(host, tmp_path / "real")
    project.write(bond())
    planned = project.plan()
    told = "libvirt on this host defines no interfaces, and neither NetworkManager nor netplan configures them"
    assert f"blocked: {told}" in planned.out
    assert "package network-manager" in planned.out
