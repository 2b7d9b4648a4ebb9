"""What the snapshot commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kvmstate.cli.options import inputs
from kvmstate.errors import KvmstateError
from kvmstate.model.printable import one_line

if TYPE_CHECKING:
    from kvmstate.host import Host

MACHINES = click.argument("machines", metavar="VM...", nargs=-1, required=True)
MACHINE = click.argument("machine", metavar="VM")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
AUTO_APPROVE = click.option("--auto-approve", is_flag=True, help="Do not ask.")


@contextmanager
def host_at(connect: str | None) -> Iterator[Host]:
    from kvmstate.host import open_host

    with open_host(connect or inputs(()).project().connection) as host:
        yield host


def say(text: str) -> None:
    click.echo(f"  {one_line(text)}", err=True)


class Progress:
    """Tenths of a block job as lines."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def __call__(self, target: str, done: int, whole: int) -> None:
        tenth = 10 * done // whole if whole else 10
        if tenth > self._told.get(target, 0):
            self._told[target] = tenth
            say(f"{target}: {tenth * 10}%")


def each(machines: tuple[str, ...], act: Callable[[str], None]) -> int:
    """One that fails does not stop the others; the exit code."""
    from kvmstate.cli import complain

    failed = 0
    for machine in machines:
        try:
            act(machine)
        except KvmstateError as error:
            if len(machines) == 1:
                raise
            failed += 1
            complain(error)
    return 1 if failed else 0
