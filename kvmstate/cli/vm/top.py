"""`kvmstate vm top`: what machines use, live."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.vm.options import machines_options, opened
from kvmstate.views.formats import TEXT, Format

_KEYS = {"c": "cpu", "m": "memory", "d": "disk", "n": "net", "a": "name"}
_NOTE = "sorted by {sort}: c cpu, m memory, d disk, n net, a name; q ends it"


@click.command("top")
@machines_options
@click.option("--sort", type=click.Choice([*_KEYS.values()]), default="cpu", show_default=True, help="The first ones.")
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks: one call to the host each.",
)
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="Print so often. Default: until q or Ctrl-C.")
@format_option
def top(fmt: Format, sort: str, interval: float, count: int | None, **given: Any) -> int:
    """Show what machines use: CPU, memory, disk, network.

    Of all machines that run, or those of these names. %CPU is of one CPU; MEM is what the guest uses, or what the host
    has given for it where the guest does not tell; rates are bytes a second. On a terminal c, m, d, n and a sort, and q
    ends it. --json prints an object a line.
    """
    from kvmstate.cli.watch import screen

    with opened(**given, every=True) as at:
        from kvmstate.host.stats import samples, usage
        from kvmstate.views import top as view

        chosen = {each.domain.uuid for each in at.seen} if given["names"] or given["selector"] else None
        live = fmt == TEXT and sys.stdout.isatty()
        with screen(fmt) as draw, _keyboard(live) as key:
            before, due, drawn = samples(at.host.connection), time.monotonic(), 0
            found = usage([], before)
            while True:
                mine = [each for each in found if chosen is None or each.sample.uuid in chosen]
                # of the first look there are no rates
                if live or drawn:
                    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
                    draw(view.output(at.host.uri, mine, sort, width, _NOTE.format(sort=sort) if live else ""))
                if count and drawn >= count:
                    return 0
                due = max(due + interval, time.monotonic())
                while (left := due - time.monotonic()) > 0 and (pressed := key(left)):
                    if pressed in "qQ\x1b":
                        return 0
                    if pressed in _KEYS:
                        sort = _KEYS[pressed]
                        draw(view.output(at.host.uri, mine, sort, width, _NOTE.format(sort=sort)))
                now = samples(at.host.connection)
                found, before, drawn = usage(before, now), now, drawn + 1


@contextmanager
def _keyboard(live: bool) -> Iterator[Any]:
    """What waits so many seconds for a key, and gives it, or nothing."""
    if not live or not os.isatty(0):

        def wait(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield wait
        return
    before = termios.tcgetattr(0)
    tty.setcbreak(0)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([0], [], [], seconds)
        return os.read(0, 1).decode("ascii", "replace") if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
