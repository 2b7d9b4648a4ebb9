"""Disks that a machine declares itself, and that are made again: it is off meanwhile, and starts from the new ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId

if TYPE_CHECKING:
    from kvmstate.host.named import User


def by(change: Change) -> ResourceId | None:
    """Who declares what is replaced."""
    if change.action is not Action.REPLACE or not change.desired or not (declared := change.desired.origin.by):
        return None
    return ResourceId.parse(declared)


def in_turn(changes: Mapping[ResourceId, Change]) -> Iterator[tuple[ResourceId, ResourceId]]:
    """What comes before what, of what one machine declares and is made again: by what holds nothing of its own, such as
    a seed, the next run sees that something is to be made again yet."""
    found: dict[ResourceId, tuple[list[ResourceId], list[ResourceId]]] = defaultdict(lambda: ([], []))
    for change in changes.values():
        if (owner := by(change)) and change.desired:
            found[owner][change.desired.spec.holds_own()].append(change.id)
    for last, first in found.values():
        yield from product(first, last)


def keep_together(changes: dict[ResourceId, Change]) -> None:
    """All that one machine declares is made again, or nothing of it."""
    found: dict[ResourceId, list[Change]] = defaultdict(list)
    for change in changes.values():
        if (owner := by(change)) and change.observed:
            found[owner].append(change)
    for together in found.values():
        stays = next((change for change in together if change.blocked), None)
        for change in together if stays else ():
            if not change.blocked and not change.interrupted:
                assert stays
                why = f"it is made again together with {stays.id}, which is blocked: {stays.blocked}"
                changes[change.id] = replace(change, blocked=why, hint=stays.hint)


def released(change: Change, users: Collection[User], changes: dict[ResourceId, Change]) -> tuple[Change, set[User]]:
    """The change, and the users without the machine that declares what is replaced, where that is off, or may be
    restarted for it. One whose machine is not to be restarted now waits until it is off, or is blocked."""
    owner = by(change)
    machine = changes.get(owner) if owner else None
    own = {user for user in users if user.id == owner and not user.snapshot}
    if (
        not own
        or machine is None
        or machine.blocked
        or machine.suspended
        or machine.destroys
        or (seen := machine.observed) is None
        or seen.saved_xml
    ):
        return change, {*users}
    if not machine.running:
        return change, {*users} - own
    if machine.lifecycle.restart == "never":
        why = f"{owner} runs on it, and lifecycle.restart: never refuses to restart that"
        return replace(change, blocked=why, hint="stop it, then apply"), {*users}
    if machine.lifecycle.restart == "whenOff":
        why = f"it is made again once {owner} is off; lifecycle.restart: now of that does it at once"
        return change.waits(why), {*users}
    return replace(change, stops=owner, stop=machine.lifecycle.stop), {*users} - own


def with_machines(changes: dict[ResourceId, Change], project: str) -> None:
    """Machines are restarted for what of theirs is made again."""
    found: dict[ResourceId, list[ResourceId]] = defaultdict(list)
    for change in changes.values():
        if change.stops and not change.blocked:
            found[change.stops].append(change.id)
    for owner, made in found.items():
        machine = changes[owner]
        assert machine.desired
        spec = machine.spec or BY_WORD[owner.kind].complete(machine.desired, machine.observed, project)
        reason = f"restarts: {', '.join(map(str, made))} {'is' if len(made) == 1 else 'are'} made again"
        changes[owner] = replace(machine, action=Action.UPDATE, spec=spec, reason=reason, remade=True)
