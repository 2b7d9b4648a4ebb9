"""Carrying out a plan from the command line: approval, progress, interruption, outcome."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kvmstate.cli import colour
from kvmstate.cli.session import Opened
from kvmstate.errors import UsageError
from kvmstate.model.plan import Plan
from kvmstate.views.apply import Lines

if TYPE_CHECKING:
    from kvmstate.views.apply_json import JsonLines


def carry_out(
    at: Opened,
    plan: Plan,
    auto_approve: bool,
    parallelism: int,
    question: str,
    as_json: bool = False,
    exact: bool = False,
) -> int:
    """The exit code: 0 when all was done, 1 when something failed, was skipped or is blocked, and as of a process that
    the signal ended when it was interrupted before all was done.

    `exact`: the plan and nothing that becomes known on the way.
    """
    view = _json_view() if as_json else Lines(colour())
    view.plan(plan)
    if plan.todo and not auto_approve:
        if as_json:
            raise UsageError("with --json nobody is asked to approve this plan", "say --auto-approve as well")
        approve(question)
    with _interrupts() as stop, view:
        result = at.session.apply(plan, at.options, view, parallelism, stop, exact)
    if plan.todo or as_json:
        view.outcome(result)
    if not result.ok and stop.number:
        return 128 + stop.number
    return 0 if result.ok and not result.left and not plan.blocked else 1


def _json_view() -> JsonLines:
    from kvmstate.views.apply_json import JsonLines

    return JsonLines()


def approve(question: str) -> None:
    """Raises UsageError when nobody can be asked, Abort for any answer but yes."""
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to approve this", "--auto-approve carries it out without asking")
    click.echo(f"\n{question}\n  Only 'yes' is accepted to approve.\n")
    if click.prompt("  Enter a value", prompt_suffix=": ", default="", show_default=False) != "yes":
        raise click.Abort


class _Stop(threading.Event):
    """Set by a signal; `number` is the signal's."""

    number = 0


@contextmanager
def _interrupts() -> Iterator[_Stop]:
    """The first Ctrl-C lets running resources finish and starts no more; the second one ends at once."""
    stop = _Stop()

    def on_signal(number: int, frame: object) -> None:
        # the kernel itself ends the program next time: Python's handlers wait until a call into libvirt returns
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        stop.number = number
        stop.set()
        click.echo("interrupted: finishing what runs; once more to abort at once", err=True)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
