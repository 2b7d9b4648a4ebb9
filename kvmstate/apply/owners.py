"""Whose is what a project finds on a host and does not own? Asked only when something stands in the way."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice

from kvmstate.apply.records import records
from kvmstate.errors import NotFound, Unseen
from kvmstate.host import Host, domains, networks
from kvmstate.host.files import normal
from kvmstate.host.identity import UNKNOWN, by_libvirt, same
from kvmstate.kind.stamps import stamped_by
from kvmstate.kinds import BY_WORD, parent_of
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId
from kvmstate.plan.known import files
from kvmstate.xmlbind import document


def with_owners(plan: Plan, host: Host) -> Plan:
    """The plan, with the owners of what is not this project's named, and what belongs to another project's things
    blocked. Raises HostError."""
    asked = [
        c
        for c in plan.changes
        if c.returns or (c.blocked and c.action is Action.ADOPT) or (c.disrupts and not c.blocked)
    ]
    if not any(c.returns or c.action in (Action.ADOPT, Action.DELETE, Action.REPLACE) for c in asked):
        return plan
    owners, ids = Owners(host, plan.project), {c.id for c in asked}
    changes = tuple(_named(c, plan.project, owners) if c.id in ids else c for c in plan.changes)
    return replace(plan, changes=changes)


def _named(change: Change, project: str, owners: Owners) -> Change:
    if change.destroys:
        why = owners.of_removed(change)
        return replace(change, blocked=why, hint="that project has to release it first") if why else change
    if not (change.returns or change.action is Action.ADOPT) or change.observed is None:
        return change
    if found := owners.of(change):
        owner, entry = found
        alias = f", as {entry.id}" if entry.id != change.id else ""
        instead = f"declare it as {entry.id}" if alias else "choose another name"
        return replace(
            change,
            action=Action.ADOPT,
            owner=owner,
            blocked=f"it is owned by project {owner}{alias}",
            hint=f"{instead}, {'and' if alias else 'or'} hand it over: "
            f"`kvmstate transfer {entry.id.typed} --to {project}` in the folder of project {owner}",
        )
    stamp = stamped_by(change.observed.xml)
    if stamp == project and not change.returns:
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
            uuids[name] = domain.uuid, domains.xml(domain)
    by_project, unread = records(host)
    found: dict[str, str] = {}
    for name, (uuid, xml) in uuids.items():
        id_, stamp = ResourceId("domain", name), stamped_by(xml)
        for project, inventory in by_project.items():
            if (entry := inventory.get(id_)) and entry.uuid in ("", uuid):
                found[name] = project
        if name not in found and stamp in unread:
            found[name] = stamp
    return found


class Owners:
    """What the other projects of a host own, by their records; read once, when something asks."""

    def __init__(self, host: Host, project: str) -> None:
        self._host, self._project = host, project

    @cached_property
    def _owned(self) -> dict[str, Inventory]:
        return records(self._host, but=self._project)[0]

    @cached_property
    def _entries(self) -> list[tuple[str, Entry]]:
        return [(other, entry) for other, owned in self._owned.items() for entry in owned.entries.values()]

    @cached_property
    def _below(self) -> dict[str, str]:
        """By what a file is known by: whose file in no pool is a layer over it, also when no machine has that now."""
        found: dict[str, str] = {}
        for other, owned in self._owned.items():
            for path, (machine, format_) in files({}, owned).items():
                lookup = self._host.lookup.files
                if posixpath.dirname(normal(path)) not in lookup.folders:
                    with suppress(Unseen):
                        for below in islice(lookup.chain(path, format_), 1, None):
                            said = f"project {other} has file {path} of virtual machine {machine} over it"
                            found |= dict.fromkeys(self._host.uses.names(below), said)
        return found

    @cached_property
    def _by_uuid(self) -> dict[str, list[tuple[str, Entry]]]:
        found: dict[str, list[tuple[str, Entry]]] = {}
        for other, entry in self._entries:
            if entry.uuid not in ("", UNKNOWN):
                found.setdefault(by_libvirt(entry.uuid), []).append((other, entry))
        return found

    @cached_property
    def _by_path(self) -> dict[str, tuple[str, Entry]]:
        """Volumes of which the record does not say more."""
        found = {}
        for other, entry in self._entries:
            kind = BY_WORD[entry.id.kind]
            pool = kind.parent_of(entry.id) if entry.uuid in ("", UNKNOWN) else None
            if pool and (there := self._host.lookup.path_of(pool.name, kind.local_name(entry.id))):
                found[normal(there[1])] = other, entry
        return found

    @cached_property
    def _in_it(self) -> dict[ResourceId, tuple[str, ResourceId]]:
        """By what they are in."""
        return {parent: (other, entry.id) for other, entry in self._entries if (parent := parent_of(entry.id))}

    def of(self, change: Change) -> tuple[str, Entry] | None:
        """The other project that owns this object, and what it has on record, under whatever address."""
        seen = change.observed
        if seen is None:
            return None
        path = document(seen.xml).findtext("target/path") if BY_WORD[change.id.kind].parent else None
        for other, entry in self._by_uuid.get(by_libvirt(seen.uuid), ()):
            if same(entry.uuid, seen.uuid) is not False:
                return other, entry
        return self._by_path.get(normal(path)) if path else None

    def of_removed(self, change: Change) -> str:
        """Why a deletion would take something from another project; empty when it does not."""
        if found := self.of(change):
            return f"project {found[0]} owns it"
        if inside := self._in_it.get(change.id):
            return f"project {inside[0]} owns {inside[1]} in it"
        if self._below and BY_WORD[change.id.kind].holds_data and change.observed:
            path = document(change.observed.xml).findtext("target/path") or ""
            return next((self._below[key] for key in self._host.uses.names(path) if key in self._below), "")
        return ""


def lost(host: Host, project: str) -> str:
    """What a project whose record is empty has left on the host, as a note; empty when there is nothing."""
    machines = host.each(lambda domain: (domain, domains.xml(domain)), domains.all_domains(host.connection))
    others = host.each(lambda network: (network, networks.xml(network)), networks.all_networks(host.connection))
    stamped = [thing for thing, xml in [*machines, *others] if stamped_by(xml) == project]
    found = sorted(f"{thing.type}/{thing.name}" for thing in stamped)
    if not found:
        return ""
    names = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return (
        f"the host has no record of what project {project} owns, but its stamp is on {names}: "
        "`kvmstate adopt` takes ownership again of what the manifests declare"
    )
