"""Whose is what a project finds on a host and does not own? Asked only when something stands in the way."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kvmstate.apply.inventory import Store
from kvmstate.apply.keep import open_keep
from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host import Host, domains, networks
from kvmstate.kind import stamped_by
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId


def with_owners(plan: Plan, host: Host) -> Plan:
    """The plan, with the owners of what is not this project's named, and a note where the host has lost its record of
    this project. Raises HostError."""
    strange = {c.id for c in plan.blocked if c.action is Action.ADOPT}
    if strange:
        owned = _owned_by_others(host, plan.project)
        changes = tuple(_named(c, plan.project, owned) if c.id in strange else c for c in plan.changes)
        plan = replace(plan, changes=changes)
    return plan


def _named(change: Change, project: str, owned: dict[tuple[ResourceId, str], str]) -> Change:
    assert change.observed is not None
    owner = owned.get((change.id, change.uuid))
    if owner:
        return replace(
            change,
            owner=owner,
            blocked=f"it is owned by project {owner}",
            hint=f"choose another name, or have {owner} hand it over: there, `kvmstate transfer {change.id} --to "
            f"{project}`",
        )
    stamp = stamped_by(change.observed.xml)
    if stamp == project:
        return replace(
            change,
            blocked="it carries this project's stamp, but the host has no record that the project owns it",
            hint="`kvmstate adopt` takes ownership of it again",
        )
    return change


def owners(host: Host, machines: Iterable[str]) -> dict[str, str]:
    """The project that owns each of these virtual machines, by the records of all projects on the host; those that no
    project owns are left out. Where a record cannot be read, the stamp in the machine counts. Raises HostError."""
    uuids: dict[str, tuple[str, str]] = {}
    for name in machines:
        with suppress(NotFound):
            domain = domains.find(host.connection, name)
            uuids[name] = domain.UUIDString(), domains.xml(domain)
    records, unread = _records(host)
    found: dict[str, str] = {}
    for name, (uuid, xml) in uuids.items():
        id_, stamp = ResourceId("domain", name), stamped_by(xml)
        for project, inventory in records.items():
            if (entry := inventory.get(id_)) and entry.uuid in ("", uuid):
                found[name] = project
        if name not in found and stamp in unread:
            found[name] = stamp
    return found


def lost(host: Host, project: str) -> str:
    """What a project whose record is empty has left on the host, as a note; empty when there is nothing."""
    objects: list[tuple[str, Any, Any]] = [("domain", d, domains.xml) for d in domains.all_domains(host.connection)]
    objects += [("network", n, networks.xml) for n in networks.all_networks(host.connection)]
    look = host.each(lambda o: f"{o[0]}/{o[1].name()}" if stamped_by(o[2](o[1])) == project else "", objects)
    found = sorted(filter(None, look))
    if not found:
        return ""
    names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return (
        f"the host has no record of what project {project} owns, but its stamp is on {names}: "
        "`kvmstate adopt` takes ownership again of what the manifests declare"
    )


def _owned_by_others(host: Host, project: str) -> dict[tuple[ResourceId, str], str]:
    """By address and UUID (volumes have none)."""
    found: dict[tuple[ResourceId, str], str] = {}
    for other, inventory in _records(host, but=project)[0].items():
        found |= {(id_, entry.uuid): other for id_, entry in inventory.entries.items()}
    return found


def _records(host: Host, but: str = "") -> tuple[dict[str, Inventory], set[str]]:
    """What each project of the host owns; and those whose record is damaged, or a newer version's: nothing can be told
    of them."""
    found, unread = {}, set()
    for project in sorted(open_keep(host, but or "any").projects() - {but}):
        try:
            found[project] = Store(open_keep(host, project), project).inventory
        except ConnectionFailed:
            raise
        except HostError:
            unread.add(project)
    return found, unread
