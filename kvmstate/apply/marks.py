"""What people say of single resources, kept in the project's record on the host: leave it alone, let it be deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from kvmstate.apply.inventory import Store
from kvmstate.errors import UsageError
from kvmstate.manifest.suggest import nearest
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.plan.select import matching


def owned(store: Store, addresses: Sequence[str]) -> list[Entry]:
    """Those that the addresses, or patterns of them, name. Raises UsageError for one that names nothing."""
    entries = store.inventory.entries
    found: dict[ResourceId, Entry] = {}
    for address in addresses:
        ids = matching(entries, address)
        if not ids:
            guess = nearest(address, map(str, entries))
            raise UsageError(
                f"project {store.project} owns no {address} on this host",
                f"did you mean {guess}?" if guess else "`kvmstate status` lists what it owns",
            )
        found |= {id_: entries[id_] for id_ in sorted(ids)}
    return list(found.values())


def suspend(store: Store, entries: Iterable[Entry], who: str, reason: str) -> None:
    """What goes to another host is suspended already."""
    since = f"since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by {who}"
    why = f"{since}: {reason}" if reason else since
    store.put(*(replace(entry, suspended=why) for entry in entries if not entry.migration))
    store.flush()


def resume(store: Store, entries: Iterable[Entry], abandons: bool = False) -> None:
    """They are looked after again. Raises UsageError for what goes to another host, or has gone there, unless that is
    abandoned: they count as this host's then."""
    entries = list(entries)
    for entry in entries:
        if entry.migration and not abandons:
            machine, uri = entry.migration.machine, entry.migration.uri
            hint = f"`kvmstate vm migrate {machine}` with the other host ({uri}) finishes the move, or takes it back; "
            hint += "if that host is gone for good, --abandon-move"
            raise UsageError(f"{entry.id} is suspended {entry.suspended}", hint)
    store.put(*(replace(entry, suspended="", migration=None) for entry in entries))
    store.flush()


def confirm(store: Store, entries: Iterable[Entry], changes: Iterable[Change]) -> None:
    """That these may be deleted; `changes` are those of a plan that prunes. Raises UsageError for what no plan would
    delete: a confirmation is not given in advance."""
    by_id, entries = {change.id: change for change in changes}, list(entries)
    for entry in entries:
        change = by_id[entry.id]
        if change.suspended:
            raise UsageError(f"{entry.id} is {change.reason}", f"kvmstate resume {entry.id.typed}")
        if change.desired:
            raise UsageError(
                f"{entry.id} is declared in {change.desired.origin}, so that its deletion does not wait for anything",
                "take it out of the manifests first",
            )
        if change.action is not Action.DELETE:
            raise UsageError(f"{entry.id} is not to be deleted: {change.reason}")
        if change.blocked:
            raise UsageError(f"{entry.id} is not to be deleted: {change.blocked}", change.hint)
    store.put(*(replace(entry, confirmed=True) for entry in entries))
    store.flush()
