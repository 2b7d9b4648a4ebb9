"""`kvmstate status --watch`: redrawn when something changes, as the daemon tells, else as libvirt and the files do."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmstate.cli import colour
from kvmstate.errors import ConnectionFailed, KvmstateError
from kvmstate.model.printable import harmless
from kvmstate.views.formats import TEXT, Format, Output

if TYPE_CHECKING:
    from kvmstate.cli.options import Inputs
    from kvmstate.host.events import Events
    from kvmstate.web.client import Client

# Seconds: for how long changes are gathered; between two tries to reach what does not answer; the longest wait without
# a look, as neither libvirt nor the daemon tells of all; what a request of the daemon waits for
GATHER = 0.1
AGAIN = 1.0
UNTOLD = 60.0
WAIT = 25.0

Draw = Callable[[Output], None]


@contextmanager
def screen(fmt: Format) -> Iterator[Draw]:
    """On a terminal one picture over the other; elsewhere one below the other, or an object a line, of what is new."""
    before = [""]

    if fmt != TEXT or not sys.stdout.isatty():

        def draw(output: Output) -> None:
            drawn = fmt.item(output)
            if before != [drawn]:
                before[:] = [drawn]
                click.echo(drawn if fmt.structured else drawn + "\n")

        yield draw
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=colour() is False)
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="ellipsis") as live:
        yield lambda output: live.update(Text(output.text(), no_wrap=True, overflow="ellipsis"), refresh=True)


def watch_daemon(client: Client, draw: Draw) -> None:
    """Draw what the daemon tells, again and again. Raises NotRunning when no daemon answers at first; one that goes
    later is waited for."""
    from kvmstate.web.client import NotRunning

    state = client.get("/status")
    while True:
        draw(_drawn(state))
        try:
            began = time.monotonic()
            client.get("/events", {"since": state["last_event"], "limit": 1, "wait": WAIT}, WAIT)
            if time.monotonic() - began < GATHER:
                # many things happen at once, or too many clients wait
                time.sleep(GATHER)
            state = client.get("/status")
        except NotRunning as error:
            state = {**state, "gone": error.message}
            draw(_drawn(state))
            state = _await(client, state)


def _drawn(state: dict[str, object]) -> Output:
    from kvmstate.views.daemon import render

    return Output(lambda: state, lambda: render(state))


def _await(client: Client, state: dict[str, object]) -> dict[str, object]:
    from kvmstate.web.client import NotRunning

    while True:
        time.sleep(AGAIN)
        try:
            found: dict[str, object] = client.get("/status")
        except NotRunning:
            continue
        return found


def watch_host(asked: Inputs, look: Callable[[], Output], draw: Draw) -> None:
    """`look` looks at the host, which is done again when libvirt or the files tell of a change."""
    from kvmstate.sources.watch import Watch

    changed = threading.Event()
    with ExitStack() as stack:
        files = Watch(asked.paths or (Path("."),), changed.set)
        files.start()
        stack.callback(files.close)
        host = _Host(asked, changed)
        stack.callback(host.close)
        while True:
            changed.clear()
            try:
                host.listen()
                project = asked.project()
                files.watch(
                    [
                        *(asked.paths or (Path("."),)),
                        *(project.paths if project.file else ()),
                        *([project.file] if project.file else ()),
                        *project.skip,
                    ]
                )
                draw(look())
                wait = UNTOLD
            except KvmstateError as error:
                from kvmstate.views.diagnostics import failed

                draw(Output(partial(failed, error), partial(harmless, f"error: {error}")))
                wait = AGAIN if isinstance(error, ConnectionFailed) else UNTOLD
            if changed.wait(wait):
                time.sleep(GATHER)


class _Host:
    """Libvirt's events, connected again when they are lost."""

    def __init__(self, asked: Inputs, changed: threading.Event) -> None:
        self._asked, self._changed = asked, changed
        self._events: Events | None = None
        self._lost = False

    def listen(self) -> None:
        """Listen to libvirt's events, unless that is so. Raises ConnectionFailed."""
        from kvmstate.host.connection import default_uri
        from kvmstate.host.events import Events

        if self._events and self._lost:
            self.close()
        if self._events is None:
            uri = self._asked.uri(self._asked.project()) or default_uri()
            self._lost = False
            self._events = Events(uri, lambda heard: self._changed.set(), self._has_gone)

    def _has_gone(self) -> None:
        self._lost = True
        self._changed.set()

    def close(self) -> None:
        if self._events:
            self._events.close()
            self._events = None
