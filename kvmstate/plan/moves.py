"""Renames: what `moved:` in kvmstate.yaml says, applied to the record and to what was observed, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kvmstate.host.identity import same
from kvmstate.kind import references
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import Move, Observed, Resource, ResourceId


@dataclass(frozen=True)
class Moved:
    """The world as if what has moved had its new name already. `origins` is by new address."""

    inventory: Inventory
    observed: Mapping[ResourceId, Observed]
    origins: Mapping[ResourceId, ResourceId]


def follow(
    moves: Iterable[Move],
    desired: Mapping[ResourceId, Resource],
    inventory: Inventory,
    observed: Mapping[ResourceId, Observed],
) -> Moved:
    """A move counts while the project owns an object of the old name, no manifest declares that name, and the new one
    is declared and free, or the object has it already. All others are history, and no error."""
    onward = {move.old: move.new for move in moves}
    entries, seen, origins = dict(inventory.entries), dict(observed), {}
    for old in onward:
        new, passed = onward[old], {old}
        while new not in desired and new in onward and new not in passed:
            passed.add(new)
            new = onward[new]
        entry, there = inventory.get(old), observed.get(old) or observed.get(new)
        if old in desired or new not in desired or (old in observed and new in observed) or not entry or not there:
            continue
        if there.uuid == entry.uuid or not entry.uuid or same(entry.uuid, there.uuid):
            # without its digest: it is compared whatever was agreed on
            entries[new] = replace(entries.pop(old), id=new, digest="")
            seen.pop(old, None)
            seen[new] = there
            origins[new] = old
    return Moved(replace(inventory, entries=entries), seen, origins)


def followers(desired: Iterable[Resource], moved: Moved) -> Iterator[Resource]:
    """What refers to something that has moved, and may be told apart by its name: it stays what it is."""
    for resource in desired if moved.origins else ():
        if any(ref.target in moved.origins for ref in references(resource.spec)):
            yield BY_WORD[resource.id.kind].ops.followed(resource, moved.observed.get(resource.id), moved.origins)


def left(moves: Iterable[Move], changes: dict[ResourceId, Change], inventory: Inventory) -> None:
    """What has gone to another host, and has another name in the manifests, is not made here, empty; nor what it
    declares."""
    for move in moves:
        entry, change = inventory.get(move.old), changes.get(move.new)
        if not (entry and entry.left and change and change.action is Action.CREATE):
            continue
        why = f"{move.old}, which it is by its new name, is on another host, {entry.suspended}"
        hint = "plan with that host; or take it out of `moved` in kvmstate.yaml, if this is to be another one"
        for each in list(changes.values()):
            declared = each.desired is not None and each.desired.origin.by == str(move.new)
            if each.action is Action.CREATE and not each.blocked and (each.id == move.new or declared):
                changes[each.id] = replace(each, blocked=why, hint=hint)


def judge(change: Change, old: ResourceId) -> Change:
    """The change of what has a new name, with its renaming; whether and when that can be done."""
    said = f"{old} has moved to {change.id}"
    change = replace(change, moved_from=old)
    if change.observed and change.observed.id == change.id:
        # the host knows already: by hand, or by a run that was cut off
        return replace(change, action=Action.ADOPT, blocked="", hint="", reason=said)
    if cannot := BY_WORD[old.kind].cannot_rename:
        why, hint = cannot
        return replace(change, action=Action.UPDATE, reason=said, blocked=f"{said}: {why}", hint=hint)
    if change.blocked:
        return replace(change, reason=said)
    if change.action is Action.REPLACE:
        return replace(change, blocked=f"{said}, and would be replaced", hint="rename it first, then change the rest")
    if change.running and change.lifecycle.restart == "never":
        hint = "stop it, then apply; or let lifecycle.restart allow it"
        return replace(change, action=Action.UPDATE, blocked=f"{said}: it cannot be renamed while it runs", hint=hint)
    if change.running and change.lifecycle.restart == "whenOff":
        waits = f"{said}: it is renamed, and changed otherwise, once it is off; lifecycle.restart: now does it at once"
        return change.waits(waits)
    return replace(change, action=Action.UPDATE, reason=f"{said}; restarts for that" if change.running else said)


def hints(
    changes: dict[ResourceId, Change],
    inventory: Inventory,
    recorded: Callable[[Resource], object] = lambda resource: resource.written,
) -> None:
    """Where something goes and its like comes, say how a rename would be told. `recorded` says what the record has of a
    resource."""
    come = [
        c for c in changes.values() if c.action is Action.CREATE and not BY_WORD[c.id.kind].cannot_rename and not c.hint
    ]
    gone = [c for c in changes.values() if c.desired is None and c.observed and not BY_WORD[c.id.kind].cannot_rename]
    rivals = Counter(c.id.kind for c in come)
    for new in come if gone else []:
        assert new.desired is not None
        alike = [c for c in gone if c.id.kind == new.id.kind]
        wanted = recorded(new.desired) if alike else None
        same = [c for c in alike if inventory.entries[c.id].specs[-1:] == (wanted,)]
        if len(same) == 1 or len(alike) == rivals[new.id.kind] == 1:
            old = (same or alike)[0].id
            told = f"if this is {old} renamed, write `moved: [{{from: {old}, to: {new.id}}}]` into kvmstate.yaml"
            changes[new.id] = replace(new, hint=told)
