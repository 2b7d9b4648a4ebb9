"""A plan for people, as Terraform's users know it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import click

from kvmstate.model.change import Action
from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.views.formats import Output
from kvmstate.views.rows import Item, items, notes, summary
from kvmstate.views.text import hanging, terminal_width

# Colour never says what the symbol or the words do not.
_COLOUR = {
    Action.CREATE: "green",
    Action.UPDATE: "yellow",
    Action.REPLACE: "red",
    Action.DELETE: "red",
    Action.ADOPT: "cyan",
    Action.FORGET: "cyan",
}
# Longer names of fields do not push the values of the others away.
WIDEST = 32
# what drift says has happened to an object
_HAPPENED = {("update",): "differs", ("delete",): "is missing", ("delete", "create"): "was replaced by another object"}
# a space at which no line is broken
_HARD = "\u00a0"
_SYMBOL_COLOUR = {"+": "green", "-": "red"}


def render(plan: Plan) -> str:
    """Every resource that something happens to, then the summary line."""
    lines = [line for item in items(plan) for line in _drawn(item)]
    said = (line for note in notes(plan) for line in hanging("", note, terminal_width()))
    return "\n".join([*lines, *([""] if lines else []), *said, summary(plan)])


def output(plan: Plan, drift: Plan | None) -> Output:
    """What `kvmstate plan` prints. `drift`, live against last applied, is for programs."""

    def data() -> object:
        from kvmstate.views.plan_json import plan_object

        assert drift
        return plan_object(plan, drift)

    def markdown() -> str:
        from kvmstate.views.markdown import render as drawn

        return drawn(plan)

    return Output(data, lambda: render(plan), markdown)


def render_drift(plan: Plan) -> str:
    """Draw drift as a plan, but told as what has happened."""
    found = (replace(item, verb=_HAPPENED[item.action.value.happened]) for item in items(plan, waiting=False))
    lines = [line for item in found for line in _drawn(item)]
    drifted = len(plan.todo) + len(plan.blocked)
    tail = f"Drift: {drifted} of {len(plan.changes)} resources differ from what was applied last."
    return "\n".join([*lines, "", tail]) if drifted else "No drift."


def _drawn(item: Item) -> Iterator[str]:
    columns = terminal_width()
    colour = "red" if item.blocked else _COLOUR.get(item.action)
    for line in hanging(f"{item.symbol:>3} {item.address:<32} ", _what(item), columns):
        yield _styled(line, colour)
    if item.hint:
        yield from hanging("        hint: ", item.hint, columns)
    width = min(WIDEST, max((len(row.name) + 1 for row in item.rows), default=0))
    for row in item.rows:
        signed = item.action is not Action.CREATE and row.symbol != "~" and not row.lines
        text = f"{row.symbol} {row.text}".rstrip() if signed else row.text
        # not cut in two, so that it can be coloured
        cost = f"({row.cost})".replace(" ", _HARD) if row.cost else ""
        told = hanging(f"      {row.name + ':':<{width}}  ", f"{text}   {cost}" if cost else text, columns)
        for line in told:
            end = line.endswith(cost) and bool(cost)
            plain = line.removesuffix(cost) if end else line
            tail = _styled(cost.replace(_HARD, " "), "magenta" if row.effect >= Effect.RESTART else None) if end else ""
            yield f"{plain}{tail}".rstrip()
        for line in row.lines:
            text = line[1:].lstrip()
            head = line[: len(line) - len(text)]
            for part in hanging(f"        {head}", text, columns):
                yield _styled(part, _SYMBOL_COLOUR.get(line[:1]))


def _what(item: Item) -> str:
    if item.blocked:
        return f"blocked: {item.reason}"
    if item.action is Action.NOOP:
        return item.reason or "unchanged; a restart is pending"
    return f"{item.verb}   ({item.reason})" if item.reason else item.verb


def _styled(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour) if colour else text
