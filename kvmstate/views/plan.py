"""A plan for people, as Terraform's users know it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from kvmstate.model.change import Action, Change, FieldChange, Key
from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.views.text import safe, shown

_WHAT = {
    Action.CREATE: ("will be created", "green"),
    Action.UPDATE: ("will be updated in place", "yellow"),
    Action.REPLACE: ("will be replaced", "red"),
    Action.DELETE: ("will be destroyed", "red"),
    Action.ADOPT: ("will be adopted", "cyan"),
    Action.FORGET: ("will be forgotten", "cyan"),
    Action.NOOP: ("", None),
}
_COST = {
    Effect.LIVE: "live",
    Effect.RESTART: "restart required",
    Effect.REPLACE: "replacement required",
    Effect.REFUSED: "refused",
}


def render(plan: Plan) -> str:
    """Every resource that something happens to, then the summary line."""
    lines = [line for change in plan.changes for line in _change(change, change in plan.waiting)]
    return "\n".join([*lines, *([""] if lines else []), summary(plan)])


def render_drift(plan: Plan) -> str:
    """As a plan, but told as what has happened."""
    lines = [line for change in plan.changes for line in _change(change, waits=False)]
    drifted = len(plan.todo) + len(plan.blocked)
    tail = f"Drift: {drifted} of {len(plan.changes)} resources differ from what was applied last."
    return "\n".join([*lines, "", tail]) if drifted else "No drift."


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


def _change(change: Change, waits: bool) -> Iterator[str]:
    what, colour = _WHAT[change.action]
    if change.blocked:
        what, colour = f"blocked: {change.blocked}", "red"
    if not what and not waits and not change.reason:
        return
    if not what:
        what = change.reason or "unchanged; a restart is pending"
    elif change.reason:
        what += f"   ({change.reason})"
    symbol = "!" if change.blocked else change.action.value
    line = f"{symbol:>3} {safe(str(change.id)):<32} {what}"
    yield click.style(line, fg=colour) if colour else line
    if change.hint:
        yield f"        hint: {change.hint}"
    if change.action is not Action.DELETE:
        rows = [_field(change, f) for f in change.shown]
        if change.action is Action.NOOP:
            rows = [(f"{f.where}:", f"{shown(f.old)} -> {shown(f.new)}", "(restart required)") for f in change.waiting]
        width = max((len(name) for name, _, _ in rows), default=0)
        for name, text, cost in rows:
            yield f"      {safe(name):<{width}}  {text}{'   ' + cost if cost else ''}"


def _field(change: Change, field: FieldChange) -> tuple[str, str, str]:
    name = f"{field.where}:"
    key = field.path[-1] if isinstance(field.path[-1], Key) else None
    old, new = shown(field.old, key), shown(field.new, key)
    if change.action is Action.CREATE:
        return name, new, ""
    if field.sensitive:
        return name, "(sensitive value)", _cost(change, field)
    if field.old is None:
        text = f"+ {new}"
    elif field.new is None:
        text = f"- {old}"
    else:
        text = f"{old} -> {new}"
    return name, text, _cost(change, field)


def _cost(change: Change, field: FieldChange) -> str:
    """What the change costs here: a machine that is off needs no restart, and what already runs so neither."""
    if field.effect is Effect.RESTART:
        if not change.running or field.path not in {f.path for f in change.waiting}:
            return ""
        return "(restarts now)" if change.restarts else "(restart required)"
    if field.effect is Effect.LIVE and not change.running:
        return ""
    cost = _COST.get(field.effect)
    return f"({cost})" if cost else ""
