"""What holds data and is declared in another place than it was: it is copied there, and machines go on with the copy.

An edited `pool` makes another address. Where what was removed from the manifests, and what has come, are the same but
for that, the one is moved. What was begun is recorded (`Entry.copied_from`), and what was left behind is known as older
(`Entry.moved_to`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host
from kvmstate.kind import Kind, references
from kvmstate.kinds import BY_WORD, ON_HOST
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan.compare import applied_specs, judged_again

Pairs = Mapping[ResourceId, ResourceId]


def pairs(desired: Mapping[ResourceId, Resource], inventory: Inventory) -> Pairs:
    """What has moved, by its new address."""
    kinds = {kind.word: kind for kind in ON_HOST if kind.holds_data and kind.parent}
    left: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for id_, entry in inventory.entries.items():
        if id_.kind in kinds and id_ not in desired and not entry.incomplete and not entry.moved_to:
            left[id_.kind, kinds[id_.kind].local_name(id_)].append(entry)
    found = {}
    for id_, resource in desired.items():
        if (kind := kinds.get(id_.kind)) is None:
            continue
        own = inventory.get(id_)
        if own and own.incomplete and own.copied_from:
            found[id_] = ResourceId.parse(own.copied_from)
        elif (own is None or own.moved_to) and (like := left.get((id_.kind, kind.local_name(id_)))):
            wanted = _apart(kind, resource.written)
            same = [entry for entry in like if _last(kind, entry) == wanted]
            if len(same) == 1:
                found[id_] = same[0].id
    return found


def _last(kind: Kind, entry: Entry) -> dict[str, object] | None:
    return _apart(kind, entry.specs[-1]) if entry.specs else None


def _apart(kind: Kind, spec: Mapping[str, object]) -> dict[str, object]:
    """What a spec says, but for what it is in."""
    return {name: value for name, value in spec.items() if name != kind.parent}


def judge(host: Host, changes: dict[ResourceId, Change], inventory: Inventory, moved: Pairs) -> None:
    """What becomes of what has moved, of what is older by now, and of who uses either."""
    for id_, old in moved.items():
        if (change := changes.get(id_)) and not change.suspended and not change.unknown:
            changes[id_] = _moved(host, change, old, changes, inventory.get(id_))
            if changes[id_].copies and not changes[id_].blocked:
                for user, its in list(changes.items()):
                    changes[user] = _following(its, old, id_)
    _refuse_others(changes, inventory)
    for id_, entry in inventory.entries.items():
        change = changes.get(id_)
        if change is None or change.observed is None or change.suspended:
            continue
        if change.desired and entry.moved_to and not change.copies:
            why = f"it has moved to {entry.moved_to}, and what it holds here is older"
            hint = f"delete it first (`virsh vol-delete`), and the next apply copies {entry.moved_to} back"
            changes[id_] = replace(change, action=_acts(change), blocked=why, hint=hint)
            for user, its in list(changes.items()):
                if not its.blocked and _comes_onto(its, id_):
                    why = f"{id_} has moved to {entry.moved_to}, and what it holds is older"
                    changes[user] = replace(its, action=_acts(its), blocked=why, hint=hint)
        elif change.desired is None and entry.incomplete and entry.copied_from:
            _keep_users(host, changes, change, entry)


def kept(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What holds data is neither deleted nor released while what takes its place is blocked: only the record leads from
    the one to the other."""
    held = defaultdict(set)
    for change in changes:
        kind = BY_WORD[change.id.kind]
        if change.desired and change.blocked and kind.holds_data and kind.parent:
            held[change.id.kind, kind.local_name(change.id)].add(change.id)
    return tuple(_stays(change, held) for change in changes) if held else tuple(changes)


def _stays(change: Change, held: Mapping[tuple[str, str], set[ResourceId]]) -> Change:
    if change.action not in (Action.DELETE, Action.FORGET) or change.blocked:
        return change
    others = held.get((change.id.kind, BY_WORD[change.id.kind].local_name(change.id)), set()) - {change.id}
    if not others:
        return change
    return replace(change, action=Action.NOOP, orphans=False, reason=f"it stays: {min(others)} is blocked")


def _refuse_others(changes: dict[ResourceId, Change], inventory: Inventory) -> None:
    """What differs in more than its place is another one, and empty: not for who has what it is called after."""
    gone = defaultdict(list)
    for id_, change in changes.items():
        kind = BY_WORD[id_.kind]
        if change.desired is None and change.observed and kind.holds_data and kind.parent:
            gone[id_.kind, kind.local_name(id_)].append(id_)
    for id_, change in list(changes.items()) if gone else ():
        if change.action is Action.CREATE and not change.blocked and not change.copies:
            for old in gone.get((id_.kind, BY_WORD[id_.kind].local_name(id_)), ()):
                if any(_goes_over(its, old, id_, inventory) for its in changes.values()):
                    why = f"it takes the place of {old}, which holds data, and more than where it is has changed"
                    hint = "change where it is alone, so that it is copied, and then the rest; or give it another name"
                    changes[id_] = replace(change, blocked=why, hint=hint)


def _goes_over(change: Change, old: ResourceId, new: ResourceId, inventory: Inventory) -> bool:
    if change.desired is None or not _refers(change.desired, new):
        return False
    specs = applied_specs(BY_WORD[change.id.kind], inventory.get(change.id))
    return any(ref.target == old for spec in specs for ref in references(spec))


def _acts(change: Change) -> Action:
    return Action.UPDATE if change.action is Action.NOOP else change.action


def _moved(
    host: Host, change: Change, old: ResourceId, changes: Mapping[ResourceId, Change], own: Entry | None
) -> Change:
    source, begun = changes.get(old), own is not None and own.incomplete and bool(own.copied_from)
    if change.observed is not None and not begun:
        return change
    try:
        # who is on it by now, or is being copied to it
        used = begun and change.observed is not None and bool(BY_WORD[change.id.kind].ops.users(host, change))
    except ConnectionFailed:
        raise
    except HostError as error:
        return replace(change, action=_acts(change), blocked=error.message, hint=error.hint)
    if used:
        reason = f"its move from {old} was interrupted, and is finished"
        return replace(
            change, action=Action.UPDATE, fields=(), active_fields=(), reason=reason, copies=old, blocked="", hint=""
        )
    if source is None or source.observed is None:
        if source and source.unknown:
            why, hint = f"it was {old}, which cannot be seen: its pool is not active", "start that pool first"
        elif begun:
            why, hint = f"its copy of {old} was interrupted, and {old} has gone", f"bring {old} back"
        else:
            return change
        return replace(change, action=_acts(change), blocked=why, hint=hint)
    if own and own.moved_to:
        # that it is gone is what was waited for
        change = BY_WORD[change.id.kind].ops.checked(host, replace(change, blocked="", hint=""), own)
    if change.blocked and not begun:
        return change
    if begun and change.observed:
        reason = f"its copy of {old} was interrupted, and is made once more"
        change = replace(
            change, action=Action.REPLACE, interrupted=True, reason=reason, copies=old, blocked="", hint=""
        )
    else:
        change = replace(change, reason=f"it was {old}: its data is copied", copies=old, blocked="", hint="")
    if fault := BY_WORD[change.id.kind].ops.copying(host, change, source.observed):
        return replace(change, blocked=fault.message, hint=fault.hint)
    if why := _strangers(host, source, changes, change.id):
        hint = f"let its manifest say {change.id.name}, too; or keep the volume where it is"
        return replace(change, blocked=why, hint=hint)
    return change


def _strangers(host: Host, source: Change, changes: Mapping[ResourceId, Change], new: ResourceId) -> str:
    """Who uses it and does not follow."""
    try:
        users = sorted(BY_WORD[source.id.kind].ops.users(host, source))
    except ConnectionFailed:
        raise
    except HostError as error:
        return error.message
    renamed = {change.moved_from: id_ for id_, change in changes.items() if change.moved_from}
    for user in users:
        its = changes.get(user.id)
        if user.id in renamed:
            return f"{user} is on {source.id}, and becomes {renamed[user.id]} with the same plan: rename it first"
        if its is not None and its.suspended:
            return f"{user} is on {source.id}, and is suspended"
        if its is None or its.desired is None or not _refers(its.desired, new) or _refers(its.desired, source.id):
            return f"{user} is on {source.id}, and does not move with it"
    return ""


def _refers(resource: Resource, id_: ResourceId) -> bool:
    return any(ref.target == id_ for ref in references(resource.spec))


def _comes_onto(change: Change, id_: ResourceId) -> bool:
    """Whether it is to use what it does not use by now."""
    if change.desired is None or change.suspended or not _refers(change.desired, id_):
        return False
    seen = change.observed.config if change.observed else None
    return all(ref.target != id_ for ref in references(seen))


def _following(change: Change, old: ResourceId, new: ResourceId) -> Change:
    """The change of who uses it: it is moved while it runs."""

    def live(fields: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
        follows = (str(old.name), str(new.name))
        return tuple(replace(f, effect=Effect.LIVE) if (str(f.old), str(f.new)) == follows else f for f in fields)

    fields, active = live(change.fields), live(change.active_fields)
    if (fields, active) == (change.fields, change.active_fields):
        return change
    return judged_again(BY_WORD[change.id.kind], change, replace(change, fields=fields, active_fields=active))


def _keep_users(host: Host, changes: dict[ResourceId, Change], change: Change, entry: Entry) -> None:
    """A move that was cut off, and is not wanted any more: who is on the new one already is not put back, and what is
    being copied to it still is not forgotten."""
    try:
        users = sorted(BY_WORD[change.id.kind].ops.users(host, change))
    except ConnectionFailed:
        raise
    except HostError as error:
        changes[change.id] = replace(change, blocked=error.message, hint=error.hint)
        return
    why = f"its move from {entry.copied_from} was interrupted, and {{}} is on it, or is being copied to it"
    hint = f"declare {change.id} again, apply, and move it back then"
    if users and change.action is not Action.NOOP:
        changes[change.id] = replace(change, blocked=why.format(users[0]), hint=hint)
    for user in users:
        its = changes.get(user.id)
        if its and its.desired and any(str(f.old) == change.id.name for f in (*its.fields, *its.active_fields)):
            why = f"it is on {change.id}, whose move from {entry.copied_from} was interrupted: back there is older data"
            changes[user.id] = replace(its, action=_acts(its), blocked=why, hint=hint)
