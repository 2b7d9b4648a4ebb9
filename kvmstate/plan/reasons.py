"""What a plan says of each resource and why, as data that is small enough to keep: other parts draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kvmstate.kind.references import references
from kvmstate.model.change import Action, Change, FieldChange, Key
from kvmstate.model.effect import Effect
from kvmstate.model.printable import one_line
from kvmstate.plan.texts import SENSITIVE, as_lines, difference, is_long, shown
from kvmstate.xmlbind import hides

# Told in one line; and kept
MOST_FIELDS = 5
MOST_KEPT = 20
_COST = {
    Effect.LIVE: "live",
    Effect.RESTART: "restart required",
    Effect.REPLACE: "replacement required",
    Effect.REFUSED: "refused",
}


@dataclass(frozen=True)
class Row:
    """One field. `symbol`: + comes, - goes, ~ changes (`old -> new`); `lines` are a long value's difference."""

    symbol: str
    name: str
    text: str
    cost: str = ""
    effect: Effect = Effect.NONE
    lines: tuple[str, ...] = ()


def row(change: Change, field: FieldChange, cost: str | None = None, lines: bool = True) -> Row:
    """What happens to a field; of long values only with `lines` how they differ."""
    name = one_line(field.where)
    effect = effect_here(change, field)
    if cost is None:
        cost = "restarts now" if effect is Effect.RESTART and change.restarts else _COST.get(effect, "")
    symbol = "+" if field.old is None else "-" if field.new is None else "~"
    if hides(field):
        return Row(symbol, name, SENSITIVE, cost, effect)
    old_lines, new_lines = as_lines(field.old), as_lines(field.new)
    if is_long(old_lines) or is_long(new_lines):
        told = _folded(change, field) or difference(old_lines, new_lines) if lines else ()
        return Row(symbol, name, "", cost, effect, tuple(told))
    key = field.path[-1] if isinstance(field.path[-1], Key) else None
    old, new = shown(field.old, key), shown(field.new, key)
    return Row(symbol, name, {"+": new, "-": old}.get(symbol, f"{old} -> {new}"), cost, effect)


def _folded(change: Change, field: FieldChange) -> list[str]:
    """A list of what another resource's manifest makes: what that names, and how much is always there besides."""
    if not (change.action is Action.CREATE and change.desired and change.desired.origin.by):
        return []
    if not isinstance(field.new, list):
        return []
    named = [item for item in field.new if any(references(item))]
    count = len(field.new) - len(named)
    return [*(f"+ {shown(item)}" for item in named), f"... {count} {field.path[-1]} that are always there"]


def effect_here(change: Change, field: FieldChange) -> Effect:
    """What a change costs here: a machine that is off needs no restart, and what already runs so neither."""
    if change.action is Action.CREATE:
        return Effect.NONE
    if field.effect is Effect.RESTART and field.path not in {f.path for f in change.waiting}:
        return Effect.NONE
    if field.effect is Effect.LIVE and not change.running:
        return Effect.NONE
    return field.effect


@dataclass(frozen=True)
class Planned:
    """What a plan said of one resource, for as long as somebody may want to know: of bounded size, and without secrets.
    Long values, and `more` fields than so many, are left out. The same said at another `time` is equal."""

    action: Action
    reason: str
    rows: tuple[Row, ...] = ()
    more: int = 0
    time: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)


def planned(change: Change, fields: Sequence[FieldChange] = ()) -> Planned | None:
    """What the plan says of a resource, or of these `fields` of it; None for what is as it should be."""
    fields = fields or change.shown
    if change.action is Action.NOOP and not (fields or change.blocked):
        return None
    rows = tuple(row(change, f, lines=False) for f in fields[:MOST_KEPT])
    return Planned(change.action, one_line(change.reason), rows, max(0, len(fields) - MOST_KEPT))


def brief(change: Change) -> str:
    """A change in one line, such as `cpus: 1 -> 2 (live), disks[data]: + …`; of many fields the first ones."""
    if change.action not in (Action.UPDATE, Action.ADOPT, Action.NOOP):
        what: str = change.will
        return what.removeprefix("will be ") + (f": {change.reason}" if change.reason else "")
    rows = [row(change, f, lines=False) for f in change.shown]
    told = [f"{r.name}: {r.text or '...'}" + (f" ({r.cost})" if r.cost else "") for r in rows[:MOST_FIELDS]]
    more = f" and {len(rows) - MOST_FIELDS} more" if len(rows) > MOST_FIELDS else ""
    return one_line(", ".join(told) + more or change.reason)
