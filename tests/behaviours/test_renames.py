"""A rename in the manifests is a rename on the host, once `moved:` says so; without, it is told how to say so."""

from __future__ import annotations

import json
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, idle, pool, resource

from kvmstate.cli import run
from kvmstate.xmlbind import document

pytestmark = pytest.mark.real


def network(name: str, **spec: Any) -> dict[str, Any]:
    return resource("Network", name, {"restart": "now"}, ips=[{"address": "192.168.77.1/24"}], **spec)


def machine(name: str, **spec: Any) -> dict[str, Any]:
    return resource("VirtualMachine", name, memory="64MiB", **{"state": "stopped", **spec})


def moved(project: Project, *pairs: tuple[str, str]) -> None:
    said = ", ".join(f"{{from: {old}, to: {new}}}" for old, new in pairs)
    file = project.folder / "kvmstate.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("moved:")]
    file.write_text("\n".join([*lines, f"moved: [{said}]\n"]))


def test_a_machine_that_is_off_is_renamed_and_changed_in_one_go(
    project: Project, connection: libvirt.virConnect
) -> None:
    nics = {"interfaces": [{"name": "lan", "network": "lan"}]}
    project.converge(network("lan"), machine("web", **nics))
    before = connection.lookupByName("web")
    uuid, mac = before.UUIDString(), before.XMLDesc().split("<mac address='")[1][:17]
    moved(project, ("domain/web", "domain/web-1"))
    project.write(network("lan"), machine("web-1", cpus=2, **nics))
    planned = project.plan("--prune")
    assert "domain/web has moved to domain/web-1" in planned.out
    assert project.todo("--prune") == {"update": 1}
    told = json.loads(project.kvmstate("plan", "--json").out)["resource_changes"]
    assert {c["address"]: c.get("previous_address") for c in told} == {
        "domain/web-1": "domain/web",
        "network/lan": None,
    }
    project.converge(options=("--prune",))
    assert [d.name() for d in connection.listAllDomains()] == ["web-1"]
    after = connection.lookupByName("web-1")
    assert (after.UUIDString(), after.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG)) == (uuid, 2)
    assert mac in after.XMLDesc()
    moved(project, ("domain/web", "domain/web-1"), ("domain/web-1", "domain/web-2"))
    project.write(network("lan"), machine("web-2", cpus=2, **nics))
    file = str(project.folder / "saved")
    assert project.plan("--prune", "--out", file).code == 2
    assert run(["apply", file, "--auto-approve"]) == 0
    assert project.plan("--prune").code == 0
    assert connection.lookupByName("web-2").UUIDString() == uuid
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert connection.listAllDomains() == []


def test_a_running_machine_is_renamed_once_it_is_off_unless_it_may_restart(
    project: Project, connection: libvirt.virConnect, tiny: Guest
) -> None:
    project.converge(tiny.machine("web"))
    first = tiny.boot()
    moved(project, ("domain/web", "domain/web-1"))
    project.write(tiny.machine("web-1"))
    waits = project.plan("--prune")
    assert waits.code == 0
    assert "domain/web has moved to domain/web-1: it is renamed, and changed otherwise, once it is off" in waits.out
    assert project.apply("--prune").code == 0
    assert [d.name() for d in connection.listAllDomains()] == ["web"]
    never = tiny.machine("web-1", {"restart": "never"})
    project.write(never)
    assert "blocked: domain/web has moved to domain/web-1: it cannot be renamed while it runs" in project.plan().out
    now = tiny.machine("web-1", {"restart": "now", "stop": {"timeout": "20s"}})
    project.converge(now, options=("--prune",))
    found = connection.listAllDomains()
    assert [(d.name(), d.isActive()) for d in found] == [("web-1", 1)]
    assert tiny.boot() != first


def test_a_network_keeps_its_uuid_and_what_no_manifest_says(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("lan", autostart=True))
    xml = connection.networkLookupByName("lan").XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    connection.networkDefineXML(xml.replace("<ip ", "<title>by hand</title><ip ") if "<title>" in xml else xml)
    uuid = connection.networkLookupByName("lan").UUIDString()
    moved(project, ("network/lan", "network/office"))
    project.converge(network("office"), options=("--prune",))
    found = connection.listAllNetworks()
    assert [(n.name(), n.UUIDString(), n.isActive(), n.autostart()) for n in found] == [("office", uuid, 1, 1)]


def test_what_libvirt_cannot_rename_is_refused_and_nothing_is_lost(project: Project) -> None:
    project.converge(pool(), resource("Volume", "a", {"deletion": "delete"}, pool="images", capacity="1MiB"))
    moved(project, ("volume/images/a", "volume/images/b"))
    project.write(pool(), resource("Volume", "b", {"deletion": "delete"}, pool="images", capacity="1MiB"))
    applied = project.apply("--prune")
    assert applied.code == 1
    assert "libvirt cannot rename it without copying its data" in applied.out
    assert project.path("images/a").exists()
    assert not project.path("images/b").exists()


def test_without_moved_a_rename_is_shown_as_what_it_is_with_a_hint(project: Project) -> None:
    project.converge(network("lan"), machine("web"))
    project.write(network("lan"), machine("web-1"))
    planned = project.plan("--prune")
    assert project.todo("--prune") == {"create": 1, "delete": 1}
    assert "hint: if this is domain/web renamed, write `moved: [{from: domain/web, to: domain/web-1}]`" in planned.out


def test_moves_that_no_longer_apply_are_no_error(project: Project) -> None:
    moved(project, ("domain/old", "domain/older"), ("network/a", "network/b"), ("network/b", "network/a"))
    project.converge(network("lan"), machine("web"))


def test_a_move_that_was_cut_off_after_the_rename_is_finished(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(machine("web"))
    connection.lookupByName("web").rename("web-1")
    moved(project, ("domain/web", "domain/web-1"))
    project.write(machine("web-1"))
    assert project.apply("--prune").code == 0
    assert project.plan("--prune").code == 0


def test_a_move_to_another_kind_is_refused_with_its_place(project: Project) -> None:
    moved(project, ("domain/web", "network/web"))
    done = project.plan()
    assert done.code == 1
    assert "kvmstate.yaml:4:" in done.err
    assert "domain/web and network/web are of different kinds" in done.err


# What may be renamed while it runs, and what not: "now" restarts, "whenOff" waits, "never" refuses
PAIRS = [
    (network_says, machine_says) for network_says in ("now", "whenOff", "never") for machine_says in ("now", "whenOff")
]


def office(says: str, name: str) -> dict[str, Any]:
    return resource("Network", name, {"restart": says}, ips=[{"address": "192.168.77.1/24"}])


def on(says: str, name: str, net: str, nic: dict[str, str], **spec: Any) -> dict[str, Any]:
    return idle(name, {"restart": says}, interfaces=[{"network": net, **nic}], **spec)


def nic_of(connection: libvirt.virConnect, name: str) -> set[tuple[str, str]]:
    """The MAC address and the network of a machine's interface, as it is defined and as it runs."""
    domain = connection.lookupByName(name)
    found = set()
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        nic = document(domain.XMLDesc(flags)).find("devices/interface")
        found.add((nic.find("mac").get("address"), nic.find("source").get("network")))
    return found


@pytest.mark.parametrize("nic", [{}, {"name": "nic"}], ids=["nameless", "named"])
@pytest.mark.parametrize("renames_machine", [False, True], ids=["", "and the machine"])
@pytest.mark.parametrize(("network_says", "machine_says"), PAIRS)
def test_a_network_is_renamed_with_the_running_machines_on_it_or_waits(
    project: Project,
    connection: libvirt.virConnect,
    network_says: str,
    machine_says: str,
    renames_machine: bool,
    nic: dict[str, str],
) -> None:
    project.converge(office(network_says, "lan"), on(machine_says, "web", "lan", nic))
    [(mac, _)] = nic_of(connection, "web")
    name = "web-1" if renames_machine else "web"
    pairs = [("network/lan", "network/office"), ("domain/web", "domain/web-1")]
    moved(project, *pairs[: 2 if renames_machine else 1])
    project.write(office(network_says, "office"), on(machine_says, name, "office", nic))
    applied = project.apply("--prune")
    assert "failed" not in applied.out + applied.err, applied
    if network_says == "now" and (machine_says == "now" or not renames_machine):
        assert applied.code == 0, applied
    else:
        # nothing is half done: the machine finds its network with its next start, too
        assert applied.code == (1 if network_says == "never" else 0), applied
        assert nic_of(connection, "web") == {(mac, "lan")}
        connection.lookupByName("web").destroy()
        connection.lookupByName("web").create()
        connection.lookupByName("web").destroy()
        connection.networkLookupByName("lan").destroy()
    project.converge(options=("--prune",))
    assert nic_of(connection, name) == {(mac, "office")}
    assert connection.lookupByName(name).isActive()
    assert [(n.name(), n.isActive()) for n in connection.listAllNetworks()] == [("office", 1)]


def test_a_new_machine_waits_for_the_network_that_is_renamed_later(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(office("whenOff", "lan"))
    moved(project, ("network/lan", "network/office"))
    project.write(office("whenOff", "office"), on("now", "web", "office", {}), idle("db", state="stopped"))
    planned = project.plan()
    assert "waits for network/office: network/lan has moved to network/office" in planned.out
    assert project.apply().code == 0
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]
    connection.networkLookupByName("lan").destroy()
    project.converge()
    assert connection.lookupByName("web").isActive()
