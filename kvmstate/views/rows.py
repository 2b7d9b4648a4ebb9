"""What a plan says of each resource, for people: worked out here, drawn elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from kvmstate.model.change import Action, Change, FieldChange, Key
from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.model.printable import one_line
from kvmstate.plan.saved import Stale
from kvmstate.views.text import SENSITIVE, difference, hides, is_long, shown

MOST_MOVES = 5
_WHAT = {
    Action.CREATE: "will be created",
    Action.UPDATE: "will be updated in place",
    Action.REPLACE: "will be replaced",
    Action.DELETE: "will be destroyed",
    Action.ADOPT: "will be adopted",
    Action.FORGET: "will be forgotten",
    Action.NOOP: "stays as it is",
}
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


@dataclass(frozen=True)
class Item:
    """One resource that something happens to, or that waits for a restart. `reason` is free text, `verb` is ours."""

    action: Action
    symbol: str
    address: str
    verb: str
    reason: str
    blocked: bool
    hint: str
    rows: tuple[Row, ...]


def items(plan: Plan, waiting: bool = True) -> list[Item]:
    """`waiting`: also what is written already and waits for a restart."""
    waits = {c.id for c in plan.waiting} if waiting else set()
    return [item for c in plan.changes if (item := _item(c, c.id in waits))]


def _item(change: Change, waits: bool) -> Item | None:
    if change.action is Action.NOOP and not (change.blocked or change.reason or waits):
        return None
    verb = "blocked" if change.blocked else _WHAT[change.action]
    rows: tuple[Row, ...] = ()
    if change.action is Action.NOOP:
        rows = tuple(_row(change, f, "restart required") for f in change.waiting)
    elif change.action is not Action.DELETE:
        rows = tuple(_row(change, f) for f in change.shown)
    symbol = "!" if change.blocked else change.action.value
    return Item(
        change.action,
        symbol,
        one_line(str(change.id)),
        verb,
        one_line(change.blocked or change.reason),
        bool(change.blocked),
        one_line(change.hint),
        rows,
    )


def _row(change: Change, field: FieldChange, cost: str | None = None) -> Row:
    name = one_line(field.where)
    effect = effect_here(change, field)
    if cost is None:
        cost = "restarts now" if effect is Effect.RESTART and change.restarts else _COST.get(effect, "")
    symbol = "+" if field.old is None else "-" if field.new is None else "~"
    if hides(field):
        return Row(symbol, name, SENSITIVE, cost, effect)
    if is_long(field.old) or is_long(field.new):
        return Row(symbol, name, "", cost, effect, tuple(difference(field.old, field.new)))
    key = field.path[-1] if isinstance(field.path[-1], Key) else None
    old, new = shown(field.old, key), shown(field.new, key)
    return Row(symbol, name, {"+": new, "-": old}.get(symbol, f"{old} -> {new}"), cost, effect)


def effect_here(change: Change, field: FieldChange) -> Effect:
    """What a change costs here: a machine that is off needs no restart, and what already runs so neither."""
    if change.action is Action.CREATE:
        return Effect.NONE
    if field.effect is Effect.RESTART and field.path not in {f.path for f in change.waiting}:
        return Effect.NONE
    if field.effect is Effect.LIVE and not change.running:
        return Effect.NONE
    return field.effect


def brief(change: Change) -> str:
    """A change in one line, such as `cpus: 1 -> 2 (live), disks[data]: + …`; of many fields the first ones."""
    if change.action not in (Action.UPDATE, Action.ADOPT, Action.NOOP):
        return _WHAT[change.action].removeprefix("will be ") + (f": {change.reason}" if change.reason else "")
    rows = [_row(change, f) for f in change.shown]
    told = [f"{r.name}: {r.text or '...'}" + (f" ({r.cost})" if r.cost else "") for r in rows[:MOST_MOVES]]
    more = f" and {len(rows) - MOST_MOVES} more" if len(rows) > MOST_MOVES else ""
    return one_line(", ".join(told) + more or change.reason)


def summary(plan: Plan) -> str:
    tail = ""
    if waiting := len(plan.waiting):
        tail += f" {waiting} restart{'s' if waiting > 1 else ''} pending."
    if blocked := len(plan.blocked):
        tail += f" {blocked} blocked."
    counts = plan.counts()
    if not plan.todo:
        return ("No changes." if not blocked else "Plan: nothing can be done.") + tail
    line = f"Plan: {counts['add']} to add, {counts['change']} to change, {counts['destroy']} to destroy.{tail}"
    forgotten = sum(c.action is Action.FORGET for c in plan.todo)
    adopted = sum(c.action is Action.ADOPT for c in plan.todo)
    return line + (f" {forgotten} to forget." if forgotten else "") + (f" {adopted} to adopt." if adopted else "")


def notes(plan: Plan) -> list[str]:
    """What people must know of a plan besides its changes."""
    found = [f"note: {one_line(note)}" for note in plan.notes]
    if count := len(plan.left_out):
        which = f"{count} resource{'s' if count > 1 else ''}"
        found.append(f"This plan is partial: --target or --exclude leaves {which} out.")
    return found


def moved(stale: Stale) -> list[str]:
    """What is no longer as the plan saw it, a line each."""
    return [f"{m.id}: {m.what or '; '.join(map(_move, m.fields[:MOST_MOVES]))}" for m in stale.moved]


def _move(field: FieldChange) -> str:
    text = SENSITIVE if hides(field) else f"{shown(field.old)} -> {shown(field.new)}"
    return f"{field.where}: {text}"
