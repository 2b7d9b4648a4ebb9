"""Carrying out a plan from the command line: approval, progress, interruption, outcome."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from kvmstate.cli import colour, once
from kvmstate.cli.session import Opened
from kvmstate.errors import UsageError
from kvmstate.model.plan import Plan
from kvmstate.model.stopping import stopping
from kvmstate.views.apply import Lines
from kvmstate.views.formats import TEXT, Format

if TYPE_CHECKING:
    from kvmstate.views.apply_json import Stream


def carry_out(
    at: Opened,
    plan: Plan,
    auto_approve: bool,
    parallelism: int,
    question: str,
    fmt: Format = TEXT,
    exact: bool = False,
    verb: str = "Apply",
    quiet: bool = False,
) -> int:
    """The exit code: 0 when all was done, 1 when something failed, was skipped or is blocked, and as of a process that
    the signal ended when it was interrupted before all was done.

    `exact`: the plan and nothing that becomes known on the way. `verb`: what is said to be complete. `quiet`: neither a
    plan that nobody is asked about is shown, nor what goes well.
    """
    view = _for_programs(fmt, verb) if fmt.structured else Lines(colour(), verb=verb, fmt=fmt, quiet=quiet)
    if fmt.structured or not (quiet and auto_approve):
        view.plan(plan)
    elif plan.blocked:
        # what the exit code stands for
        view.plan(replace(plan, changes=plan.blocked))
    if plan.todo and not auto_approve:
        approve(question, fmt)
    with _interrupts() as stop, view:
        result = at.session.apply(plan, at.options, view, parallelism, stop, exact)
    if plan.todo or plan.blocked or fmt.structured:
        view.outcome(result, len(plan.blocked))
    if not result.ok and stop.number:
        return 128 + stop.number
    return 0 if result.ok and not result.left and not plan.blocked else 1


def _for_programs(fmt: Format, verb: str) -> Stream:
    from kvmstate.views.apply_json import Stream

    return Stream(fmt, verb)


def approve(question: str, fmt: Format = TEXT) -> None:
    """Ask for approval. Raises UsageError when nobody can be asked, Abort for any answer but yes."""
    if fmt.structured:
        raise UsageError(f"with --format {fmt.name} nobody is asked to approve this", "say --auto-approve as well")
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for approval: stdin is not a terminal", "--auto-approve carries it out without asking"
        )
    click.echo(f"\n{question}\n  Only 'yes' is accepted to approve.\n")
    if click.prompt("  Enter a value", prompt_suffix=": ", default="", show_default=False) != "yes":
        raise click.Abort


class _Stop(threading.Event):
    """Set by a signal; `number` is the signal's."""

    number = 0


@contextmanager
def _interrupts() -> Iterator[_Stop]:
    """The first Ctrl-C, SIGTERM or SIGHUP lets running resources finish and starts no more; one more ends at once."""
    stop = _Stop()
    stopping.clear()

    def on_signal(number: int, frame: object) -> None:
        once()
        stop.number = number
        stop.set()
        stopping.set()
        # not by the streams: this thread may be writing to them at this moment
        with suppress(OSError):
            os.write(2, b"interrupted: finishing what runs; once more to abort at once\n")

    handled = [signal.SIGINT, signal.SIGTERM]
    # nohup(1) has it ignored
    handled += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    before = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if number != signal.SIGHUP or not stop.number:
                signal.signal(number, handler)
