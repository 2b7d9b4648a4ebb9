"""An apply under way: progress bars on a terminal, one line an event elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

import click

from kvmstate.apply import Event, EventKind, Result
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId
from kvmstate.views.text import safe

_DOING = {
    Action.CREATE: ("Creating...", "Creation complete"),
    Action.UPDATE: ("Modifying...", "Modifications complete"),
    Action.REPLACE: ("Replacing...", "Replacement complete"),
    Action.DELETE: ("Destroying...", "Destruction complete"),
    Action.ADOPT: ("Adopting...", "Adoption complete"),
    Action.FORGET: ("Forgetting...", "Forgotten"),
}


class Lines:
    """What happens, on stderr, with bars for uploads where there is a terminal. Called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[ResourceId, float] = {}
        self._bars: Any = None
        self._tasks: dict[ResourceId, Any] = {}

    def __enter__(self) -> Lines:
        if sys.stderr.isatty():
            # rich is worth its start-up time only where somebody watches
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        id_ = event.change.id
        if event.kind is EventKind.PROGRESS:
            self._progress(event)
            return
        if event.kind is not EventKind.STARTED and (task := self._tasks.pop(id_, None)) is not None:
            self._bars.remove_task(task)
        if event.kind is EventKind.STARTED:
            self._since[id_] = time.monotonic()
            self._say(f"{id_}: {_DOING[event.change.action][0]}")
        elif event.kind is EventKind.STEP and self._bars is not None:
            self._say(f"{id_}:   {event.text}", dim=True)
        elif event.kind is EventKind.DONE:
            took = time.monotonic() - self._since.get(id_, time.monotonic())
            self._say(f"{id_}: {_DOING[event.change.action][1]} after {took:.1f}s")
        elif event.kind is EventKind.FAILED:
            self._say(f"{id_}: failed: {event.text}", colour="red")
        elif event.kind is EventKind.SKIPPED:
            self._say(f"{id_}: skipped: {event.text}", colour="yellow")

    def _progress(self, event: Event) -> None:
        if self._bars is None:
            return
        id_ = event.change.id
        if id_ not in self._tasks:
            self._tasks[id_] = self._bars.add_task(safe(f"{id_}: {event.text}"), total=event.total)
        self._bars.update(self._tasks[id_], completed=event.done)

    def _say(self, line: str, colour: str | None = None, dim: bool = False) -> None:
        text = safe(line)
        if self._bars is not None:
            self._bars.console.print(text, style=colour or ("dim" if dim else None), markup=False, highlight=False)
        else:
            click.echo(text, err=True)


def outcome(result: Result, left: tuple[Change, ...]) -> str:
    """The last lines: what failed and why, what was skipped, what did not take effect, and the count."""
    lines = []
    for change, error in result.failed:
        lines += [f"error: {change.id}: {error.message}", *([f"  hint: {error.hint}"] if error.hint else [])]
    lines += [f"skipped: {change.id}: {reason}" for change, reason in result.skipped]
    for change in left:
        names = ", ".join(f.where for f in change.shown) or change.action.name.lower()
        lines += [
            f"error: {change.id}: libvirt accepted the change, but did not keep all of it: {names}",
            "  hint: this host's libvirt or QEMU may not support it; `kvmstate plan` shows the difference",
        ]
    actions = [change.action for change in result.done]
    added = sum(a in (Action.CREATE, Action.REPLACE) for a in actions)
    changed = sum(a is Action.UPDATE for a in actions)
    destroyed = sum(a in (Action.DELETE, Action.REPLACE) for a in actions)
    head = "Apply complete!" if result.ok and not left else "Apply incomplete."
    lines.append(f"{head} Resources: {added} added, {changed} changed, {destroyed} destroyed.")
    return "\n".join(map(safe, lines))
