"""What needs something that is blocked is blocked, too: it would fail half-way, or use what is not the project's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvmstate.kind import references
from kvmstate.kinds import BY_WORD, parent_of
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId

_CHANGES = (Action.CREATE, Action.UPDATE, Action.REPLACE)


def with_dependants(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes, which are in the order of their needs."""
    ordered = tuple(changes)
    if not any(_stays(change) or _waits(change) for change in ordered):
        return ordered
    judged: dict[ResourceId, Change] = {}
    for change in ordered:
        judged[change.id] = _judged(change, judged)
    return tuple(judged.values())


def _judged(change: Change, judged: dict[ResourceId, Change]) -> Change:
    if change.blocked or change.suspended:
        return change
    if change.action is Action.DELETE:
        for id_ in sorted(change.needs & judged.keys()):
            user = judged[id_]
            if user.blocked and user.action is Action.DELETE:
                return replace(change, blocked=f"in use by {id_}, which is blocked: {user.blocked}", hint=user.hint)
    elif change.unknown:
        pool = judged.get(parent_of(change.id) or change.id)
        if change.desired and pool and _stays(pool) and not pool.running:
            return _needing(change, pool)
    elif change.action in _CHANGES and change.spec is not None:
        for id_ in sorted({ref.target for ref in references(change.spec)} & judged.keys()):
            if _stays(judged[id_]) and _is_needed(change, judged[id_]):
                return _needing(change, judged[id_])
            if _waits(judged[id_]):
                return change.waits(f"waits for {id_}: {judged[id_].reason}")
    return change


def _stays(needed: Change) -> bool:
    """Whether nothing is done to it although something should."""
    return bool(needed.blocked) or needed.suspended


def _waits(needed: Change) -> bool:
    """Whether it is there under its new name later."""
    return needed.is_renamed and needed.action is Action.NOOP


def _is_needed(change: Change, needed: Change) -> bool:
    """Whether the change cannot do with it as it is. What is defined already, and is not started, can."""
    data = BY_WORD[change.id.kind].holds_data
    starts = change.restarts or (change.spec.runs and not change.running and not data)
    seen = change.observed.config if change.observed and change.action is Action.UPDATE else None
    comes = needed.id not in {ref.target for ref in references(seen)}
    if BY_WORD[needed.id.kind].holds_data:
        # what is there, and is not known to be the project's, holds somebody's data; what would be replaced is not yet
        # what is wanted
        missing = needed.observed is None or needed.action is Action.ADOPT
        return ((starts or comes) and missing) or (comes and needed.action is Action.REPLACE)
    return (comes and (needed.observed is None or needed.is_renamed)) or (starts and not needed.running)


def _needing(change: Change, needed: Change) -> Change:
    why = f"blocked: {needed.blocked}" if needed.blocked else "suspended"
    return replace(change, blocked=f"needs {needed.id}, which is {why}", hint="")
