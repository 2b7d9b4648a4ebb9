"""`kvmstate events`: what a daemon has done and seen."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmstate.cli import colour
from kvmstate.cli.daemon import client, daemon_options
from kvmstate.cli.formats import format_option
from kvmstate.cli.options import inputs
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format, Output

if TYPE_CHECKING:
    from kvmstate.web.client import Client

# Events shown at first by --follow; seconds that a request waits for news, and between two tries to reach the daemon
FIRST = 10
WAIT = 25.0
AGAIN = 1.0


@click.command("events")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path(path_type=Path))
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@click.option("--since", metavar="TIME", default="", help="From then on: 2026-11-25T02:30, 2h, or an event's id.")
@format_option
@daemon_options
def command(path: Path, follow: bool, since: str, fmt: Format, daemon: str | None, token_file: Path | None) -> int:
    """Show what the daemon has done and seen.

    Each event has its reason and the revision of the manifests. When the daemon is not running, its events are read
    from disk.
    """
    from kvmstate.web.client import NotRunning

    project = inputs((path,)).project().name
    asked = client(daemon, token_file, project)
    query = {"since": _utc(since)} if since else {"limit": FIRST} if follow else {}
    try:
        answer = asked.get("/events", query)
    except NotRunning as error:
        if daemon or follow:
            raise
        found = _left(project, since)
        if not found:
            raise
        click.echo(f"{error.message}; these are from its disk", err=True)
        _show(found, fmt)
        return 0
    _show(answer["events"], fmt)
    if follow:
        _follow(asked, answer["last"], fmt)
    return 0


def _follow(asked: Client, last: int, fmt: Format) -> None:
    from kvmstate.web.client import NotRunning

    gone = False
    while True:
        began = time.monotonic()
        try:
            answer = asked.get("/events", {"since": last, "wait": WAIT}, WAIT)
        except NotRunning as error:
            if not gone:
                click.echo(f"{error.message}; waiting for it", err=True)
            gone = True
            time.sleep(AGAIN)
            continue
        gone, last = False, answer["last"]
        _show(answer["events"], fmt)
        if not answer["events"] and time.monotonic() - began < AGAIN:
            # too many wait already
            time.sleep(AGAIN)


def _show(events: list[dict[str, object]], fmt: Format) -> None:
    from kvmstate.views.events import line

    for event in events:
        click.echo(fmt.item(Output(partial(dict, event), partial(line, event))), color=colour())


def _utc(since: str) -> str:
    """As the daemon reads it: what names no time zone is this machine's time."""
    from contextlib import suppress
    from datetime import datetime

    if not since.isdecimal():
        with suppress(ValueError):
            return datetime.fromisoformat(since).astimezone().isoformat()
    return since


def _left(project: str, since: str) -> list[dict[str, object]]:
    """What a daemon that has ended left on disk."""
    from kvmstate.reconcile.journal import kept

    try:
        return kept(project, _utc(since))
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
