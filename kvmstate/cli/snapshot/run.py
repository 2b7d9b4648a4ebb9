"""`kvmstate snapshot run`: what the project's snapshot policies ask for now."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import connect_option, manifest_options
from kvmstate.cli.session import lock_option, opened
from kvmstate.model.printable import harmless
from kvmstate.views.formats import TEXT, Format


def _time(context: click.Context, option: click.Parameter, text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC).replace(microsecond=0)
    with suppress(ValueError):
        given = datetime.fromisoformat(text)
        if 1970 < given.year < 9000:
            return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    raise click.BadParameter(f"{text!r}: expected a time such as 2026-11-25T02:30 (UTC) or 2026-11-25T02:30+01:00")


def _say(text: str) -> None:
    click.echo(harmless(text), err=True)


@click.command("run")
@manifest_options
@connect_option
@lock_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and why what is kept is kept; do nothing.")
@click.option("--at", "now", metavar="TIME", callback=_time, help="As if it were this time (ISO 8601). Default: now.")
@format_option
def command(now: datetime, dry_run: bool, fmt: Format, lock_timeout: int, **given: Any) -> int:
    """Take snapshots that are due; delete those past retention.

    For cron or a systemd timer, as often as the most frequent schedule; a run that was missed is caught up once. Only
    snapshots that a policy of this project took are ever deleted. Exit 0: all is done; 1: something failed.
    """
    from kvmstate.views import snapshot_run as view

    outcomes = []
    with opened(lock_timeout=None if dry_run else lock_timeout, **given) as at:
        policies = at.session.policies.all
        for outcome in at.session.policies.run(now, dry_run, _say):
            outcomes.append(outcome)
            if fmt == TEXT:
                for line in view.lines(outcome, dry_run):
                    click.echo(line)
    show(fmt, view.output(policies, outcomes, now, dry_run))
    return 1 if any(outcome.errors for outcome in outcomes) else 0
