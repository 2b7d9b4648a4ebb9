"""Network filters on a real host: what uses one keeps it, libvirt's own stay as they are, and guests follow at once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, idle, kvmstate, resource

from kvmstate import sandbox
from kvmstate.kinds.network_filter.spec import GIVEN

pytestmark = pytest.mark.real

LAN = resource("Network", "lan", bridge={"name": "kvmfilter"}, ips=[{"address": "192.168.97.1/24"}])


def web(port: int | str = 80) -> dict[str, Any]:
    rule = {"action": "accept", "direction": "in", "priority": 100, "tcp": {"dstPortStart": port}}
    return resource("NetworkFilter", "web", rules=[rule, {"action": "drop", "direction": "in", "all": {}}])


def nic(filter_: str, **parameters: Any) -> dict[str, Any]:
    return {"network": "lan", "filterref": {"filter": filter_, **({"parameters": parameters} if parameters else {})}}


def firewall(project: Project) -> str:
    command = ["nsenter", "--target", str(project.host.pid), "--net", "--mount", "iptables-save"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def domain(name: str, filter_: str = "") -> str:
    ref = f"<filterref filter='{filter_}'/>" if filter_ else ""
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
        f"<interface type='network'><mac address='52:54:00:00:97:01'/><source network='lan'/>{ref}</interface>"
        "</devices></domain>"
    )


def defined(connection: libvirt.virConnect) -> None:
    connection.defineXML(domain("user", "web"))


def running_only(connection: libvirt.virConnect) -> None:
    machine = connection.defineXML(domain("user", "web"))
    machine.create()
    text = domain("user").replace("<name>", f"<uuid>{machine.UUIDString()}</uuid><name>")
    connection.defineXML(text)


def defined_only(connection: libvirt.virConnect) -> None:
    machine = connection.defineXML(domain("user"))
    machine.create()
    connection.defineXML(domain("user", "web").replace("<name>", f"<uuid>{machine.UUIDString()}</uuid><name>"))


def in_a_snapshot(connection: libvirt.virConnect) -> None:
    machine = connection.defineXML(domain("user"))
    then = domain("user", "web").replace("<name>", f"<uuid>{machine.UUIDString()}</uuid><name>")
    text = f"<name>then</name><state>shutoff</state><creationTime>1</creationTime>{then}"
    redefine = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    machine.snapshotCreateXML(f"<domainsnapshot>{text}</domainsnapshot>", redefine)


def another_filter(connection: libvirt.virConnect) -> None:
    connection.nwfilterDefineXML("<filter name='user'><filterref filter='web'/></filter>")


@pytest.mark.parametrize(
    "use", [defined, running_only, defined_only, in_a_snapshot, another_filter], ids=lambda use: use.__name__
)
def test_what_is_used_by_others_is_not_deleted(project: Project, connection: libvirt.virConnect, use: Any) -> None:
    project.converge(LAN, web())
    use(connection)
    users = {another_filter: "network filter user", in_a_snapshot: "snapshot then of virtual machine user"}
    user = users.get(use, "virtual machine user")
    project.write(LAN)
    planned = project.plan("--prune")
    assert f"blocked: in use by {user}" in planned.out
    assert f"in use by {user}" in project.kvmstate("destroy", "--auto-approve", "--target", "nwfilter/web").out
    assert connection.nwfilterLookupByName("web").name() == "web"


def test_a_use_that_comes_after_the_plan_counts(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    project.converge(LAN, web())
    project.write(LAN)
    assert project.plan("--prune", "--out", str(tmp_path / "plan")).code == 2
    another_filter(connection)
    applied = kvmstate("apply", str(tmp_path / "plan"), "--auto-approve")
    assert applied.code == 1
    assert connection.nwfilterLookupByName("web").name() == "web"


def test_they_come_and_go_in_the_order_of_references(project: Project) -> None:
    outer = resource("NetworkFilter", "a-outer", rules=[{"filter": "web"}, {"filter": "clean-traffic"}])
    machine = idle("one", interfaces=[nic("a-outer")])
    project.converge(machine, outer, web(), LAN)
    shown = project.kvmstate("graph").out
    assert '"domain/one" -> "nwfilter/a-outer"' in shown
    assert '"nwfilter/a-outer" -> "nwfilter/web"' in shown
    # one that uses it no more goes first
    project.converge(idle("one", interfaces=[nic("clean-traffic")]), LAN, options=("--prune",))
    assert project.kvmstate("destroy", "--auto-approve").code == 0


def test_running_machines_follow_at_once(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(LAN, web(80), idle("one", interfaces=[nic("web")]))
    number = connection.lookupByName("one").ID()
    assert "--dport 80 " in firewall(project)
    project.converge(LAN, web(443), idle("one", interfaces=[nic("web")]))
    assert "--dport 443 " in firewall(project)
    assert "--dport 80 " not in firewall(project)
    project.converge(LAN, web(443), idle("one", interfaces=[{"network": "lan"}]))
    assert "--dport 443 " not in firewall(project)
    assert connection.lookupByName("one").ID() == number


def test_what_it_drops_is_dropped(project: Project, tiny: Guest) -> None:
    """Nobody listens in the guest, which says so itself for a packet that reaches it."""

    def machine(*nics: dict[str, Any]) -> dict[str, Any]:
        return tiny.machine("web", interfaces=[*nics])  # type: ignore[no-any-return]

    def dropping(port: int) -> dict[str, Any]:
        rule = {"action": "drop", "direction": "in", "tcp": {"dstPortStart": port}}
        return resource("NetworkFilter", "web", rules=[rule])

    def reached(port: int, tries: str = "1 2 3") -> bool:
        """The first packets may be lost; once others have come through, none is lost but what is dropped."""
        connects = f"import socket; socket.create_connection(('{address}', {port}), 3)"
        script = f'for i in {tries}; do python3 -c "{connects}" 2>&1 | grep -q refused && exit 0; done; exit 1'
        return sandbox.execute(project.host, ["sh", "-c", script]) == 0

    leased = {"ranges": [{"start": "192.168.97.9", "end": "192.168.97.99"}]}
    net = resource("Network", "lan", ips=[{"address": "192.168.97.1/24", "dhcp": leased}])
    project.converge(net, dropping(9), machine(nic("web")))
    address = tiny.says(r"nics=[^ ,]*=(192\.168\.97\.\d+) ")[1]
    boot = tiny.boot()
    assert (reached(10), reached(9, tries="1")) == (True, False)
    project.converge(net, dropping(10), machine(nic("web")))
    assert (reached(9), reached(10, tries="1")) == (True, False)
    project.converge(net, machine({"network": "lan"}), options=("--prune",))
    assert (reached(9), reached(10)) == (True, True)
    assert tiny.boot() == boot


def test_one_that_a_running_machine_cannot_follow_changes_nothing(
    project: Project, connection: libvirt.virConnect
) -> None:
    """It comes to refer to a filter of the host's, with a variable that the machine's interface gives no value."""
    rule = "<rule action='accept' direction='in'><tcp dstportstart='$PORT'/></rule>"
    connection.nwfilterDefineXML(f"<filter name='theirs'>{rule}</filter>")
    theirs = web(80)
    theirs["spec"]["rules"].insert(0, {"filter": "theirs"})
    project.converge(LAN, web(80), idle("one", interfaces=[nic("web")]))
    before, text = firewall(project), connection.nwfilterLookupByName("web").XMLDesc()
    project.write(LAN, theirs, idle("one", interfaces=[nic("web")]))
    failed = project.apply()
    assert failed.code == 1
    assert "PORT" in failed.out
    assert "hint: a running machine's interface refers to it" in failed.out
    assert connection.nwfilterLookupByName("web").XMLDesc() == text
    assert sorted(re.findall("--dport.*", firewall(project))) == sorted(re.findall("--dport.*", before))
    # what a rule needs comes before the rule
    project.converge(LAN, web(80), idle("one", interfaces=[nic("web", PORT=[80, 81])]))
    project.converge(LAN, web("$PORT"), idle("one", interfaces=[nic("web", PORT=[80, 81])]))
    assert "--dport 81 " in firewall(project)


def test_libvirts_own_are_known_as_given(project: Project, connection: libvirt.virConnect, tmp_path: Path) -> None:
    assert {each.name() for each in connection.listAllNWFilters()} == GIVEN
    connection.nwfilterDefineXML("<filter name='mine'><filterref filter='clean-traffic'/></filter>")
    folder = tmp_path / "imported"
    assert kvmstate("import", "--all", "-c", project.uri, "--output", str(folder), "--project", "other").code == 0
    assert [path.name for path in (folder / "filters").iterdir()] == ["mine.yaml"]
    refused = kvmstate("import", "nwfilter/clean-traffic", "-c", project.uri, "--output", str(tmp_path / "x"))
    assert refused.code == 1
    assert "it comes with libvirt" in refused.err
    # nobody's project has one, by whatever way
    project.write(resource("NetworkFilter", "clean-traffic"))
    for command in ("plan", "apply --auto-approve", "adopt --auto-approve"):
        assert "clean-traffic comes with libvirt" in project.kvmstate(command).err


def test_one_that_was_changed_by_hand_is_brought_back(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(web())
    there = connection.nwfilterLookupByName("web")
    connection.nwfilterDefineXML(there.XMLDesc().replace("dstportstart='80'", "dstportstart='80' srcipaddr='10.0.0.1'"))
    assert "nwfilter/web" in project.kvmstate("drift").out
    project.converge()
    there.undefine()
    project.converge()
    assert connection.nwfilterLookupByName("web").UUIDString() == there.UUIDString()


def test_what_exists_is_adopted(project: Project, connection: libvirt.virConnect) -> None:
    connection.nwfilterDefineXML("<filter name='web'><rule action='drop' direction='in'/></filter>")
    project.write(web())
    assert "`kvmstate adopt` takes ownership" in project.apply().out
    assert project.kvmstate("adopt", "--auto-approve", "nwfilter/web").code == 0
    project.converge()


def test_the_test_driver_has_none(tmp_path: Path) -> None:
    project = Project("test:///default", tmp_path / "shop")
    project.write(web())
    planned = project.plan()
    assert "blocked: this host has no network filters" in planned.out
