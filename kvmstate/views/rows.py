"""What a plan says of each resource, for people: worked out here, drawn elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.plan import Plan
from kvmstate.model.printable import one_line
from kvmstate.plan.reasons import MOST_FIELDS, Row, row
from kvmstate.plan.texts import SENSITIVE, shown
from kvmstate.xmlbind import hides

if TYPE_CHECKING:
    from kvmstate.plan.saved import Stale


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
    verb = "blocked" if change.blocked else change.will
    rows: tuple[Row, ...] = ()
    if change.action is Action.NOOP:
        rows = tuple(row(change, f, "restart required") for f in change.waiting)
    elif change.action is not Action.DELETE:
        rows = tuple(row(change, f) for f in change.shown)
    symbol = "!" if change.blocked else change.action.value.symbol
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
    others = Counter(change.action for change in plan.todo)
    more = ((others[action], action.value.tally) for action in Action)
    return line + "".join(f" {count} to {tally[0]}." for count, tally in more if tally and count)


def notes(plan: Plan) -> list[str]:
    """What people must know of a plan besides its changes."""
    found = [f"note: {one_line(note)}" for note in plan.notes]
    if count := len(plan.left_out):
        which = f"{count} resource{'s' if count > 1 else ''}"
        found.append(f"This plan is partial: --target or --exclude leaves {which} out.")
    return found


def moved(stale: Stale) -> list[str]:
    """What is no longer as the plan saw it, a line each."""
    return [f"{m.id}: {m.what or '; '.join(map(_move, m.fields[:MOST_FIELDS]))}" for m in stale.moved]


def _move(field: FieldChange) -> str:
    text = SENSITIVE if hides(field) else f"{shown(field.old)} -> {shown(field.new)}"
    return f"{field.where}: {text}"
