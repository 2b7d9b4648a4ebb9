"""Whether what a plan makes fits where it is to be: said before anything is begun."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from kvmstate.errors import HostError
from kvmstate.host import Host, pools
from kvmstate.kind import Room
from kvmstate.kinds import BY_WORD, parent_of
from kvmstate.model.change import Action, Change
from kvmstate.model.pool_types import PoolType
from kvmstate.model.quantity import about
from kvmstate.model.resource import Observed, ResourceId

_GROWS = (Action.CREATE, Action.REPLACE, Action.UPDATE)
_ANEW = (Action.CREATE, Action.REPLACE)


def fitting(host: Host, changes: Sequence[Change], seen: dict[ResourceId, Observed]) -> tuple[list[Change], list[str]]:
    """The changes, of which those are blocked that would take more at once than there is; and notes on places of which
    more is promised than they have. `seen` are places that are not among the changes."""
    by_id, notes = {change.id: change for change in changes}, []
    places = {parent_of(change.id) for change in changes if change.action in _GROWS and not change.blocked} - {None}
    for id_ in sorted(filter(None, places)):
        pool = by_id.get(id_)
        found = pool.observed if pool else seen.get(id_)
        if found is None or (pool and pool.action in _ANEW):
            # how large it is shows when it is there
            continue
        inside = [change for change in by_id.values() if parent_of(change.id) == id_]
        blocked, note = _in_one(host, id_, found, inside)
        by_id |= blocked
        notes += [note] if note else []
    return [by_id[change.id] for change in changes], notes


def _in_one(
    host: Host, id_: ResourceId, found: Observed, inside: Sequence[Change]
) -> tuple[dict[ResourceId, Change], str]:
    space, place = BY_WORD[id_.kind].ops.space(found), found.config.keeps()
    if space is None or not space.capacity:
        return {}, ""
    rooms = {change.id: room for change in inside if (room := _room(change, place))}
    freed = sum(rooms[c.id].held for c in inside if c.id in rooms and _frees(c))
    wanted = [c for c in inside if c.id in rooms and c.action in _GROWS and not c.blocked and rooms[c.id].at_once]
    available = space.available
    if sum(rooms[c.id].at_once for c in wanted) > available + freed:
        # libvirt counts when it looks, which may be a while ago
        with suppress(HostError):
            available = pools.space(pools.find(host.connection, id_.name))[1]
    blocked, left = {}, available + freed
    for change in wanted:
        takes = rooms[change.id].at_once
        if takes > left:
            why = f"it does not fit: it takes {about(takes)} at once, and {id_} has {about(max(0, left))} for it"
            blocked[change.id] = replace(change, blocked=why, hint="make room there, or make it smaller")
        else:
            left -= takes
    kept = [room for change_id, room in rooms.items() if change_id not in blocked]
    after = sum(room.in_all for room in kept) + max(0, space.allocation - sum(room.held for room in rooms.values()))
    grows = any(c.action in _GROWS and not c.blocked and c.id not in blocked for c in inside)
    if place.sparse and grows and after > space.capacity:
        ratio = after / space.capacity
        return blocked, (
            f"{id_} is over-committed {ratio:.1f} times: its volumes may grow to {about(after)} in all, and it has "
            f"{about(space.capacity)}"
        )
    return blocked, ""


def _room(change: Change, place: PoolType) -> Room | None:
    return BY_WORD[change.id.kind].ops.room(change, place)


def _frees(change: Change) -> bool:
    return change.destroys and not change.blocked
