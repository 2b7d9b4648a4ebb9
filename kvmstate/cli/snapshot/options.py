"""What the snapshot commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvmstate.cli.options import complete_addresses, inputs
from kvmstate.cli.session import lock_option as shared_lock_option
from kvmstate.errors import KvmstateError
from kvmstate.model.printable import one_line

if TYPE_CHECKING:
    from kvmstate.host import Host

F = TypeVar("F", bound=Callable[..., object])
_MACHINES = "domain/"


def plain(name: str) -> str:
    """A machine's name, also of its address in plans: domain/web-1. No name has a slash in it."""
    return name.removeprefix(_MACHINES)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [plain(each) for each in complete_addresses(context, parameter, _MACHINES + incomplete)]


def _plain(_context: click.Context, _parameter: click.Parameter, value: Any) -> object:
    return plain(value) if isinstance(value, str) else tuple(map(plain, value))


MACHINES = click.argument(
    "machines", metavar="VM...", nargs=-1, required=True, callback=_plain, shell_complete=_complete
)
ANY_MACHINES = click.argument("machines", metavar="[VM]...", nargs=-1, callback=_plain, shell_complete=_complete)
MACHINE = click.argument("machine", metavar="VM", callback=_plain, shell_complete=_complete)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done; do nothing.")
AUTO_APPROVE = click.option("--auto-approve", is_flag=True, help="Do not ask.")


@contextmanager
def host_at(connect: str | None) -> Iterator[Host]:
    from kvmstate.host import open_host

    with open_host(connect or inputs(()).project().connection) as host:
        yield host


def lock_option(command: F) -> F:
    # a daemon holds the lock often, and never for long unless it has to
    return shared_lock_option(command, default="30s")


@contextmanager
def holding(host: Host, machines: Iterable[str], lock_timeout: int, dry_run: bool) -> Iterator[Callable[[str], None]]:
    """Hold the locks of the projects that own these machines, unless nothing is to be done. Gives a `say` that raises
    Locked when one was taken away: what is said is said before it is done."""
    if dry_run:
        yield say
        return
    from kvmstate.apply.held import held

    command = click.get_current_context().command_path.removeprefix("kvmstate ")
    with held(host, machines, command, lock_timeout, say) as check:

        def checked(text: str) -> None:
            check()
            say(text)

        yield checked


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
