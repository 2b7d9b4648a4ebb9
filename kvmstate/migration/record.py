"""Who owns a machine that goes from one host to another: each has a record of its own, and no write changes both.

The host that it LEAVES owns it until the one write in that host's record which says that it has LEFT. By then the
record of the other host, where it ARRIVES, has the same entries, which do not count before; after it their marks are
taken out. All the while they are suspended in both records, so that no apply, no daemon and no policy starts, changes
or deletes anything of them. What is cut off goes on from what both records say.

That something has LEFT stays on record as long as the manifests there declare it: nobody makes it a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kvmstate.apply.inventory import Store
from kvmstate.apply.lock import myself
from kvmstate.host import Host
from kvmstate.model.inventory import ARRIVES, LEAVES, LEFT, Entry, Inventory, Migration
from kvmstate.model.resource import ResourceId


@dataclass(frozen=True)
class Side:
    """One of both hosts, with the project's record there: to be `read`, or to be written while its lock is held."""

    host: Host
    read: Callable[[], Inventory]
    writable: Callable[[], AbstractContextManager[Store]]


def begin(
    source: Side, target: Side, pairs: Sequence[tuple[Entry, Migration]], opened: Callable[[Entry], Entry]
) -> None:
    """Say in both records that these go from the one host to the other; `opened` is an entry with its secrets, of which
    each host has hashes of its own. Raises HostError and Locked."""
    to, here, since = target.host, source.host, _now()
    leaving, arriving = f"{since}: it is being moved to {to.uri}", f"{since}: it is being moved here from {here.uri}"
    with source.writable() as store:
        put(store, (_marked(e, LEAVES, m, to, leaving) for e, m in pairs))
    with target.writable() as store:
        left = {id_ for id_, entry in store.inventory.entries.items() if entry.left or _returns(entry)}
        put(store, (_arriving(opened(e), replace(m, returns=e.id in left), here, arriving) for e, m in pairs))


def end(source: Side, target: Side, machine: str) -> None:
    """Have the other host own it, and its volumes."""
    left = f"{_now()}: it has been moved to {target.host.uri}"
    with source.writable() as store:
        leaving = underway(store.inventory, machine, LEAVES)
        put(store, (_marked(e, LEFT, e.migration, target.host, left) for e in leaving if e.migration))


def arrived(target: Side, identities: Mapping[ResourceId, str]) -> None:
    """What the other host does not own any more is this one's without reserve, and these very objects."""
    with target.writable() as store:
        found = [(entry, uuid) for id_, uuid in identities.items() if (entry := store.get(id_)) and comes(entry)]
        put(store, (replace(e, uuid=uuid, migration=None, suspended="", incomplete=False) for e, uuid in found))


def undo(source: Side, target: Side, machine: str) -> None:
    """Take it back in both records; what was made for it on the other host has gone by now."""
    left = f"{_now()}: it is on {source.host.uri}"
    with target.writable() as store:
        for entry in underway(store.inventory, machine, ARRIVES):
            if entry.migration and entry.migration.returns:
                store.put(_marked(entry, LEFT, entry.migration, source.host, left))
            else:
                store.drop(entry.id)
        store.flush()
    with source.writable() as store:
        put(store, (replace(e, migration=None, suspended="") for e in underway(store.inventory, machine, LEAVES)))


def underway(inventory: Inventory, machine: str, *roles: str) -> list[Entry]:
    """The machine and its volumes, as far as they are on their way so."""
    every = inventory.entries.values()
    return [e for e in every if e.migration and e.migration.machine == machine and e.migration.role in roles]


def comes(entry: Entry) -> bool:
    return entry.migration is not None and entry.migration.role == ARRIVES


def _returns(entry: Entry) -> bool:
    return entry.migration is not None and entry.migration.returns


def put(store: Store, entries: Iterable[Entry]) -> None:
    store.put(*entries)
    store.flush()


def _now() -> str:
    return f"since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by {myself()}"


def _marked(entry: Entry, role: str, mark: Migration, other: Host, why: str) -> Entry:
    mark = replace(mark, role=role, host=other.identity, uri=other.uri)
    return replace(entry, migration=mark, suspended=why, digest="")


def _arriving(entry: Entry, mark: Migration, source: Host, why: str) -> Entry:
    """Digests are about the host that they were made on. What is copied is not there yet, and has no identity."""
    whole = Entry(entry.id, "" if mark.copied else entry.uuid, entry.specs, entry.lifecycle, incomplete=mark.copied)
    return _marked(replace(whole, pending=entry.pending), ARRIVES, mark, source, why)
