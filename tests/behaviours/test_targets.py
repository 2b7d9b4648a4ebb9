"""A plan of targets looks at these and what they need, and says what the plan of everything says of them."""

from __future__ import annotations

from dataclasses import replace

import libvirt
import pytest
from flaky import Counting, Flaky
from harness import Project, pool, resource

from kvmstate.app import open_session
from kvmstate.manifest import load
from kvmstate.model.plan import Plan
from kvmstate.plan import Options
from kvmstate.plan.select import select

pytestmark = pytest.mark.real

MANY = 12
LAN = resource("Network", "lan", active=False, ips=[{"address": "192.168.190.1/24"}])


def machine(number: int, memory: str = "32MiB") -> list[dict[str, object]]:
    """With a volume of its own, on the network."""
    disks, interfaces = [{"name": "root", "volume": f"images/v{number}"}], [{"network": "lan"}]
    spec = {"state": "stopped", "memory": memory, "disks": disks, "interfaces": interfaces}
    volume = resource("Volume", f"v{number}", {"deletion": "delete"}, pool="images", format="raw", capacity="1MiB")
    return [volume, resource("VirtualMachine", f"m{number}", **spec)]


def all_of(count: int = MANY) -> list[dict[str, object]]:
    return [pool(), LAN, *(document for number in range(count) for document in machine(number))]


def planned(project: Project, *targets: str, prune: bool = False) -> tuple[Plan, int]:
    """And the calls that it took."""
    manifests = load([project.folder / "manifests.yaml"])
    with open_session(project.uri, project.name, manifests.resources) as session:
        counting = Counting()
        session.host.connection = Flaky(session.host.connection, counting)
        return session.plan(Options(targets=targets, prune=prune, max_deletes=100)), counting.calls.total()


def same(project: Project, *targets: str, prune: bool = False) -> bool:
    """Whether targets are planned with fewer calls than everything; what is planned of them is the same."""
    near, few = planned(project, *targets, prune=prune)
    everything, many = planned(project, prune=prune)
    changes, left_out = select(everything.changes, targets, ())
    said = [(c.id, c.action, c.fields, c.blocked, c.reason, c.needs) for c in near.changes]
    assert said == [(c.id, c.action, c.fields, c.blocked, c.reason, c.needs) for c in changes]
    assert sorted(near.left_out) == sorted(left_out)
    assert near.notes == replace(everything, changes=changes).notes
    return few < many


def test_a_machine_and_what_it_needs_is_all_that_is_looked_at(project: Project) -> None:
    project.converge(*all_of())
    project.write(pool(), LAN, *(d for n in range(MANY) for d in machine(n, "64MiB")))
    plan, asked = planned(project, "domain/m3")
    assert [(str(c.id), c.action.name) for c in plan.todo] == [("domain/m3", "UPDATE")]
    assert {str(c.id) for c in plan.changes} == {"domain/m3", "volume/images/v3", "pool/images", "network/lan"}
    assert asked < 40
    assert same(project, "domain/m3")
    assert same(project, "domain/m1", "VirtualMachine/m1[01]")


def test_what_only_the_host_knows_that_it_is_needed_is_looked_at(
    project: Project, connection: libvirt.virConnect
) -> None:
    other = resource("Network", "other", active=False)
    project.converge(*all_of(), other)
    project.write(*all_of(), {**other, "spec": {"active": False, "domain": {"name": "other.example"}}})
    web = connection.lookupByName("m2")
    connection.defineXML(web.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("network='lan'", "network='other'"))
    assert same(project, "domain/m2")
    assert "network/other" in {str(change.id) for change in planned(project, "domain/m2")[0].changes}


def test_where_others_count_everything_is_looked_at(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(*all_of())
    # a network that others are on, a volume that somebody uses, and what leaves
    connection.networkLookupByName("lan").setAutostart(1)
    project.write(pool(), {**LAN, "spec": {**LAN["spec"], "autostart": False}}, *all_of(MANY - 1)[2:])
    assert not same(project, "network/lan")
    assert not same(project, f"domain/m{MANY - 1}", f"volume/images/v{MANY - 1}", prune=True)
    assert same(project, "domain/m1")
