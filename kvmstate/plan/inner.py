"""What a resource declares itself, such as the volumes of a machine's disks, and what it had in their place before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from kvmstate.kind import references
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import ResourceId
from kvmstate.plan.compare import applied_specs


def keep(changes: dict[ResourceId, Change], inventory: Inventory, moved: Collection[ResourceId]) -> None:
    """What holds data, is named after who declares it and would be made once more, empty: of one that has moved, or
    whose format alone is another one, it is blocked, and any other is told what was there before."""
    for id_, change in changes.items():
        by = change.desired.origin.by if change.desired and change.desired.spec.holds_own() else ""
        if (
            not by
            or change.action is not Action.CREATE
            or change.hint
            or change.copies
            or not BY_WORD[id_.kind].holds_data
        ):
            continue
        owner = ResourceId.parse(by)
        left = sorted(_left(owner, id_.kind, changes, inventory))
        if not left:
            continue
        assert change.desired
        kind, stem = BY_WORD[id_.kind], change.desired.spec.stem
        names = [kind.local_name(each) for each in left]
        hint = f"to keep {left[0]}, write `name: {names[0]}` beside the pool of what is declared in {by}"
        if len(left) > 1:
            hint = f"to keep one of {', '.join(map(str, left))}, write its `name:` beside the pool in {by}"
        if owner in moved:
            why = f"{by} has another name now, and would have a new one in place of {' or '.join(map(str, left))}"
            changes[id_] = replace(change, blocked=why, hint=hint)
        elif change.lifecycle.replace != "allow" and (
            same := [each for each in left if stem(each.name) == stem(id_.name)]
        ):
            why = f"in another format it is another volume, empty, in place of {same[0]}"
            hint = f"to keep that, write its format, or `name: {kind.local_name(same[0])}`"
            changes[id_] = replace(change, blocked=why, hint=f"{hint}; lifecycle.replace: allow permits it")
        else:
            changes[id_] = replace(change, hint=hint)


def _left(owner: ResourceId, kind: str, changes: dict[ResourceId, Change], inventory: Inventory) -> set[ResourceId]:
    """What it used when it was applied last, is there, and is declared nowhere any more."""
    specs = applied_specs(BY_WORD[owner.kind], inventory.get(owner))
    used = {ref.target for spec in specs for ref in references(spec) if ref.target.kind == kind}
    return {id_ for id_ in used if (change := changes.get(id_)) and change.desired is None and change.observed}
