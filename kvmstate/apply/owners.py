"""Whose is what a project finds on a host and does not own? Asked only when something stands in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvmstate.apply.inventory import Store
from kvmstate.apply.keep import open_keep
from kvmstate.errors import HostError
from kvmstate.host import Host, domains, networks
from kvmstate.kind import stamped_by
from kvmstate.model.change import Action, Change
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
            hint=f"choose another name, or have {owner} let it go: lifecycle.deletion: orphan there, apply, take it "
            "out of its manifests, apply --prune",
        )
    stamp = stamped_by(change.observed.xml)
    if stamp == project:
        return replace(
            change,
            blocked="it carries this project's stamp, but the host has no record that the project owns it",
            hint="`kvmstate adopt` takes ownership of it again",
        )
    return change


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
    for other in open_keep(host, project).projects():
        if other != project:
            try:
                entries = Store(open_keep(host, other), other).inventory.entries
            except HostError:
                # damaged, or a newer version's: nothing can be told of it
                continue
            found |= {(id_, entry.uuid): other for id_, entry in entries.items()}
    return found
