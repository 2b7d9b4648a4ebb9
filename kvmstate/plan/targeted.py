"""What a plan of targets has to look at: these, and what they need. All else only where it may count."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from kvmstate.kind import references
from kvmstate.kinds import BY_WORD, parent_of
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan.compare import applied_specs
from kvmstate.plan.select import matching

# What takes nothing away from anybody
_GENTLE = (Action.CREATE, Action.UPDATE, Action.ADOPT)


def named(desired: Collection[ResourceId], known: Collection[ResourceId], targets: Iterable[str]) -> set[ResourceId]:
    """The resources that targets name; none where one names nothing, or what leaves."""
    found: set[ResourceId] = set()
    for pattern in targets:
        matched = matching(known, pattern)
        if not matched or not matched <= {*desired}:
            return set()
        found |= matched
    return found


def with_needs(
    ids: Iterable[ResourceId], desired: Mapping[ResourceId, Resource], inventory: Inventory
) -> set[ResourceId]:
    """These, and all that they refer to, by their manifests and by what was applied last."""
    found: set[ResourceId] = set()
    todo = [*ids]
    while todo:
        if (id_ := todo.pop()) in found or (id_ not in desired and id_ not in inventory.entries):
            continue
        found.add(id_)
        resource = desired.get(id_)
        specs = [resource.spec] if resource else []
        specs += applied_specs(BY_WORD[id_.kind], inventory.get(id_), resource)
        todo += {ref.target for spec in specs for ref in references(spec)}
        if parent := parent_of(id_):
            todo.append(parent)
    return found


def seen_to_need(changes: Iterable[Change]) -> set[ResourceId]:
    """What the host's own XML of these refers to besides."""
    looked = (change for change in changes if change.observed is not None and not change.agrees)
    return {ref.target for change in looked for ref in references(change.observed.config)}  # type: ignore[union-attr]


def others_count(
    changes: Iterable[Change], desired: Mapping[ResourceId, Resource], near: Collection[ResourceId]
) -> bool:
    """Whether what these do may depend on what is not `near`: where something goes, or others use what changes."""
    todo = {change.id: change for change in changes if change.action is not Action.NOOP}
    if any(change.action not in _GENTLE for change in todo.values()):
        return True
    return bool(todo) and any(not used.isdisjoint(todo) for used in _used(desired, near))


def _used(desired: Mapping[ResourceId, Resource], near: Collection[ResourceId]) -> Iterator[set[ResourceId | None]]:
    for id_, resource in desired.items():
        if id_ not in near:
            yield {*(ref.target for ref in references(resource.spec)), parent_of(id_)}
