"""What a daemon would undo at once: refused, or held by suspending the machine first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.session import lock_option as shared_lock_option
from kvmstate.errors import HostError

if TYPE_CHECKING:
    from kvmstate.apply.standing import Standing
    from kvmstate.cli.vm.options import At
    from kvmstate.host.overview import Seen


@dataclass(frozen=True)
class Hold:
    """`wanted`: yes, no, or nothing was said."""

    wanted: bool | None = None
    reason: str = ""
    lock_timeout: int = 0

    def refuse(self, standing: Standing, state: str) -> None:
        """Refuse a state that a daemon would undo at once, unless somebody has said what to do. Raises HostError."""
        if self.wanted is None and standing.fights(state):
            raise HostError(
                f"the daemon {standing.daemon} would undo it at once: {standing.says}",
                f"--hold suspends it first, until `kvmstate resume domain/{standing.name}`; or write "
                f"`state: {state}` in its manifest; --no-hold does it all the same",
            )


def lock_option(command: Callable[..., int]) -> Callable[..., int]:
    """--lock-timeout."""
    # a daemon holds the lock often, and never for long unless it has to
    return shared_lock_option(command, default="30s")


def hold_options(command: Callable[..., int]) -> Callable[..., int]:
    """--hold, --no-hold, --reason and --lock-timeout, which the command is given as `hold`."""

    @wraps(command)
    def run(*, hold: bool | None, reason: str, lock_timeout: int, **given: Any) -> int:
        return command(hold=Hold(hold, reason, lock_timeout), **given)

    found: Callable[..., int] = run
    for decorate in (
        lock_option,
        click.option("--reason", default="", metavar="TEXT", help="Why it is held; shown wherever it is suspended."),
        click.option(
            "--hold/--no-hold",
            default=None,
            help="Suspend it, so that no apply and no daemon undoes this until `kvmstate resume`; or do it although a "
            "daemon may undo it.",
        ),
    ):
        found = decorate(found)
    return found


def suspend(at: At, hold: Hold) -> At:
    """The machines, suspended if that is asked for; what no project owns needs that not. Raises Locked, HostError."""
    if not hold.wanted:
        return at
    from kvmstate.app import writable
    from kvmstate.apply import marks
    from kvmstate.apply.lock import myself
    from kvmstate.apply.standing import Standings
    from kvmstate.cli.session import writing

    owned: dict[str, list[Seen]] = {}
    for each in at.seen:
        if project := at.standings.of(each.domain).project:
            owned.setdefault(project, []).append(each)
    reason = hold.reason or click.get_current_context().command_path
    for project, machines in sorted(owned.items()):
        with writable(at.host, project, writing(hold.lock_timeout, False)) as store:
            found = [at.standings.of(each.domain).entry for each in machines]
            # as it is now that nobody else writes
            entries = [now for entry in found if entry and (now := store.get(entry.id))]
            marks.suspend(store, entries, myself(), reason)
    return type(at)(at.host, at.seen, Standings(at.host))
