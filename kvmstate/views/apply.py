"""An apply under way: progress bars on a terminal, one line a resource elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import click

from kvmstate.apply import Event, EventKind, Result
from kvmstate.errors import HostError, KvmstateError
from kvmstate.model.change import Action
from kvmstate.model.plan import Plan
from kvmstate.model.printable import harmless, one_line
from kvmstate.model.resource import ResourceId
from kvmstate.views.formats import TEXT, Format, Output
from kvmstate.views.plan import output

# Of fewer bytes there is nothing to tell: these are steps
_FEW = 4096


class Lines:
    """The plan and the outcome on stdout; what happens meanwhile on stderr: on a terminal what begins and what is done,
    with bars for uploads where somebody watches, elsewhere what is done. Called from several threads."""

    def __init__(
        self,
        colour: bool | None = None,
        remind: float = 10.0,
        verb: str = "Apply",
        fmt: Format = TEXT,
        quiet: bool = False,
    ) -> None:
        """`colour`: click's meaning, None for: where it is a terminal. `remind`: seconds between two reminders. `verb`:
        what is said to be complete. `fmt`: of the plan and the outcome. `quiet`: of what happens meanwhile only what
        goes wrong is told."""
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._fmt = fmt
        self._verb = verb
        self._colour = colour
        self._lock = threading.Lock()
        self._since: dict[ResourceId, float] = {}
        self._steps: dict[ResourceId, str] = {}
        self._every = remind
        self._ended = threading.Event()
        self._bars: Any = None
        self._tasks: dict[ResourceId, Any] = {}
        # since when, and bytes done and in all
        self._far_by_now: dict[ResourceId, tuple[float, int, int]] = {}

    def __enter__(self) -> Lines:
        if self._terminal and not self._quiet and not os.environ.get("CI"):
            # rich is worth its start-up time only where somebody watches
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            named = TextColumn("  {task.description}")
            self._bars = Progress(named, BarColumn(), *columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        if not self._quiet:
            threading.Thread(target=self._remind, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bars is not None:
            self._bars.stop()

    def plan(self, plan: Plan) -> None:
        click.echo(self._fmt.whole(output(plan, None)), color=self._colour)

    def outcome(self, result: Result, blocked: int = 0) -> None:
        said = Output(lambda: None, lambda: outcome(result, self._verb, blocked))
        click.echo("\n" + self._fmt.whole(said))

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tell(event)

    def _remind(self) -> None:
        """What takes long (a guest that shuts down) is told from time to time."""
        while not self._ended.wait(self._every):
            with self._lock:
                for id_, since in self._since.items():
                    took = time.monotonic() - since
                    doing = ", ".join((self._steps.get(id_, "wait"), *self._far(id_), f"{took:.0f}s elapsed"))
                    self._say(f"{id_}: Still working... [{doing}]", dim=True)

    def _far(self, id_: ResourceId) -> Iterator[str]:
        """How far a step has come that tells it: of how many bytes, how fast, and how long the rest takes then."""
        since, done, total = self._far_by_now.get(id_, (0.0, 0, 0))
        if 0 < done < total and (took := time.monotonic() - since) > 0:
            rate = done / took
            if total < _FEW:
                yield f"{done} of {total} steps"
                return
            yield f"{done >> 20} of {total >> 20} MiB, {rate / (1 << 20):.1f} MiB/s, {(total - done) / rate:.0f}s left"

    def _tell(self, event: Event) -> None:
        id_ = event.change.id
        if event.kind is EventKind.PROGRESS:
            self._progress(event)
            return
        if event.kind is not EventKind.STARTED and (task := self._tasks.pop(id_, None)) is not None:
            self._bars.remove_task(task)
        if event.kind is EventKind.STARTED:
            self._since[id_] = time.monotonic()
            if self._terminal and not self._quiet:
                self._say(f"{id_}: {event.change.action.value.doing}")
        elif event.kind is EventKind.STEP:
            self._steps[id_] = event.text
            self._far_by_now.pop(id_, None)
            if self._bars is not None:
                self._say(f"{id_}:   {event.text}", dim=True)
        elif event.kind is EventKind.DONE:
            took = time.monotonic() - self._since.pop(id_, time.monotonic())
            if not self._quiet:
                self._say(f"{id_}: {event.change.action.value.done} after {took:.1f}s")
        elif event.kind is EventKind.FAILED:
            self._since.pop(id_, None)
            self._say(f"{id_}: failed: {event.text}", colour="red")
        elif event.kind is EventKind.SKIPPED:
            self._say(f"{id_}: skipped: {event.text}", colour="yellow")

    def _progress(self, event: Event) -> None:
        id_ = event.change.id
        since, *_ = self._far_by_now.get(id_, (time.monotonic(),))
        self._far_by_now[id_] = (since, event.done, event.total)
        if self._bars is None:
            return
        if id_ not in self._tasks:
            self._tasks[id_] = self._bars.add_task(one_line(str(id_)), total=event.total)
        self._bars.update(self._tasks[id_], completed=event.done)

    def _say(self, line: str, colour: str | None = None, dim: bool = False) -> None:
        text = harmless(line)
        if self._bars is not None:
            self._bars.console.print(text, style=colour or ("dim" if dim else None), markup=False, highlight=False)
        else:
            click.echo(text, err=True)


def outcome(result: Result, verb: str = "Apply", blocked: int = 0) -> str:
    """The last lines: what failed and why, what was skipped, what did not take effect, and the count."""
    lines: list[str] = []
    for change, error in result.failed:
        lines += _told(error, str(change.id))
    for change, reason in result.skipped:
        lines.append(f"skipped: {change.id}: {reason}")
        lines += [f"  hint: {change.hint}"] if change.blocked and change.hint else []
    for change, late in result.waiting:
        lines.append(f"restart pending: {change.id}: {', '.join(late.places)}: {late.message}")
        lines += [f"  hint: {late.hint}"] if late.hint else []
    for error, address in not_kept(result):
        lines += _told(error, address)
    return "\n".join(map(harmless, [*lines, headline(result, verb, blocked)]))


def _told(error: KvmstateError, address: str) -> list[str]:
    return [f"error: {address}: {error.message}", *([f"  hint: {error.hint}"] if error.hint else [])]


def not_kept(result: Result) -> list[tuple[KvmstateError, str]]:
    """What still differs after all was done, as errors with their addresses."""
    hint = "this host's libvirt or QEMU may not support it; `kvmstate plan` shows the difference"
    found: list[tuple[KvmstateError, str]] = []
    for change in result.left:
        names = ", ".join(f.where for f in change.shown) or change.action.name.lower()
        said = f"libvirt accepted the change, but did not keep all of it: {names}"
        found.append((HostError(said, hint), str(change.id)))
    return found


def headline(result: Result, verb: str = "Apply", blocked: int = 0) -> str:
    """`blocked`: how many changes the plan has that nothing was tried for."""
    added, changed, destroyed = counts(result)
    head = f"{verb} complete!" if result.ok and not result.left and not blocked else f"{verb} incomplete."
    done = Counter(change.action for change in result.done)
    more = "".join(f", {done[a]} {a.value.tally[1]}" for a in Action if a.value.tally and done[a])
    more += "".join(
        f", {number} {what}"
        for what, number in (("failed", len(result.failed)), ("skipped", len(result.skipped)), ("blocked", blocked))
        if number
    )
    return f"{head} Resources: {added} added, {changed} changed, {destroyed} destroyed{more}."


def counts(result: Result) -> tuple[int, int, int]:
    """Resources added, changed and destroyed, as Terraform counts them."""
    found = Counter(name for change in result.done for name in change.action.value.counts)
    return found["add"], found["change"], found["destroy"]
