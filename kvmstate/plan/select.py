"""A part of a plan: `--target` keeps what it names and what that needs, `--exclude` drops what it names and what
needs that.

Nothing is deleted or released on the way that was not named itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from kvmstate.errors import PlanError
from kvmstate.kinds import BY_NAME
from kvmstate.manifest.suggest import nearest
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId


def select(
    changes: tuple[Change, ...], targets: Sequence[str], excludes: Sequence[str]
) -> tuple[tuple[Change, ...], tuple[ResourceId, ...]]:
    """What stays of an ordered plan, and what is left out. Raises PlanError for an address that names nothing."""
    if not targets and not excludes:
        return changes, ()
    by_id = {change.id: change for change in changes}
    meant = named(by_id, targets, "--target")
    kept = _closure(meant, lambda id_: by_id[id_].needs) if targets else set(by_id)
    for id_ in sorted(kept - meant) if targets else ():
        if by_id[id_].action is Action.FORGET:
            kept.discard(id_)
        elif by_id[id_].action is Action.DELETE:
            user = next(change.id for change in changes if id_ in change.needs and change.id in kept)
            raise PlanError(
                f"{user} cannot go alone: {id_}, which leaves too, refers to it", f"say --target {id_} as well"
            )
    needed_by: dict[ResourceId, set[ResourceId]] = {}
    for change in changes:
        for id_ in change.needs:
            needed_by.setdefault(id_, set()).add(change.id)
    kept -= _closure(named(by_id, excludes, "--exclude"), lambda id_: needed_by.get(id_, ()))
    left_out = tuple(change.id for change in changes if change.id not in kept)
    return tuple(replace(c, needs=c.needs & kept) for c in changes if c.id in kept), left_out


def named(known: Mapping[ResourceId, Change], patterns: Sequence[str], option: str) -> set[ResourceId]:
    """What these patterns name. Raises PlanError for one that names nothing."""
    found: set[ResourceId] = set()
    for pattern in patterns:
        these = matching(known, pattern)
        if not these:
            raise PlanError(
                f"{option} {pattern}: there is no such resource in this plan",
                f"did you mean {guess}?"
                if (guess := _meant(pattern, known))
                else "addresses are as plans write them, such as domain/web-1 or 'volume/images/*'",
            )
        found |= these
    return found


def matching(known: Iterable[ResourceId], pattern: str) -> set[ResourceId]:
    """What an address names, or a pattern such as 'volume/images/*'; kinds may be written as in manifests."""
    return {id_ for id_ in known if fnmatchcase(str(id_), _address(pattern))}


def _address(pattern: str) -> str:
    kind, slash, name = pattern.partition("/")
    return f"{BY_NAME[kind].word}/{name}" if slash and kind in BY_NAME else pattern


def _meant(pattern: str, known: Iterable[ResourceId]) -> str | None:
    """The address that was probably meant: a name alone, or a kind that is spelt otherwise, counts too."""
    names = sorted(map(str, known))
    last = pattern.rpartition("/")[2]
    return nearest(_address(pattern), names) or next((name for name in names if name.rpartition("/")[2] == last), None)


def _closure(start: Iterable[ResourceId], onward: Callable[[ResourceId], Iterable[ResourceId]]) -> set[ResourceId]:
    found: set[ResourceId] = set()
    todo = list(start)
    while todo:
        if (id_ := todo.pop()) not in found:
            found.add(id_)
            todo += onward(id_)
    return found
