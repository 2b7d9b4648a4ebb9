"""`kvmstate suspend`, `resume` and `confirm`: what people say of single resources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import complete_addresses, connect_option, env_option, folder_option, inputs
from kvmstate.cli.session import lock_option
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.app import Session
    from kvmstate.cli.options import Loaded

Command = TypeVar("Command", bound=Callable[..., int])


def _options(command: Command) -> Command:
    for decorate in (
        format_option,
        # a daemon holds the lock often, and never for long unless it has to
        partial(lock_option, default="30s"),
        connect_option,
        env_option,
        folder_option,
        click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True, shell_complete=complete_addresses),
    ):
        command = decorate(command)
    return command


@click.command("suspend")
@_options
@click.option("--reason", default="", metavar="TEXT", help="Shown wherever it is shown as suspended.")
def suspend(
    addresses: tuple[str, ...],
    folder: Path,
    env: str | None,
    connect: str | None,
    lock_timeout: int,
    reason: str,
    fmt: Format,
) -> int:
    """Leave resources alone until they are resumed.

    No apply and no daemon touches them meanwhile; who suspended them, when and why is recorded on the host.
    """
    with _session(folder, env, connect, lock_timeout) as session:
        from kvmstate.apply import marks
        from kvmstate.apply.lock import myself

        entries = marks.owned(session.store, addresses)
        marks.suspend(session.store, entries, myself(), reason)
    with telling(fmt) as tell:
        for entry in entries:
            tell(f"{entry.id} is suspended", address=str(entry.id))
    return 0


@click.command("resume")
@_options
@click.option("--abandon-move", is_flag=True, help="The other host of a move to it, or from it, is gone for good.")
def resume(
    addresses: tuple[str, ...],
    folder: Path,
    env: str | None,
    connect: str | None,
    lock_timeout: int,
    abandon_move: bool,
    fmt: Format,
) -> int:
    """Resume suspended resources.

    A daemon corrects at once what has changed in the meantime.
    """
    with _session(folder, env, connect, lock_timeout) as session:
        from kvmstate.apply import marks

        entries = marks.owned(session.store, addresses)
        marks.resume(session.store, entries, abandon_move)
    with telling(fmt) as tell:
        for entry in entries:
            said = f"is resumed; it was suspended {entry.suspended}" if entry.suspended else "was not suspended"
            tell(f"{entry.id} {said}", address=str(entry.id))
    return 0


@click.command("confirm")
@_options
def confirm(
    addresses: tuple[str, ...], folder: Path, env: str | None, connect: str | None, lock_timeout: int, fmt: Format
) -> int:
    """Approve the deletion of resources that are not declared.

    For resources that were removed from the manifests, where `prune: confirm` makes `kvmstate run` wait.
    """
    loaded = inputs((folder,), env, connect=connect).load()
    if loaded.project.reconcile.prune != "confirm":
        raise UsageError(f"project {loaded.project.name} waits for no confirmation", "see reconcile.prune: confirm")
    with _session(folder, env, connect, lock_timeout, loaded) as session:
        from kvmstate.apply import marks
        from kvmstate.plan import Options

        entries = marks.owned(session.store, addresses)
        # of everything: what is left may use what is to go
        plan = session.plan(Options(prune=True, moves=loaded.project.moves, lenient=True))
        marks.confirm(session.store, entries, plan.changes)
    with telling(fmt) as tell:
        for entry in entries:
            tell(f"{entry.id} may be deleted", address=str(entry.id))
    return 0


@contextmanager
def _session(
    folder: Path, env: str | None, connect: str | None, lock_timeout: int, loaded: Loaded | None = None
) -> Iterator[Session]:
    from kvmstate.app import open_session
    from kvmstate.cli.session import writing

    project = loaded.project if loaded else inputs((folder,), env).project()
    resources = loaded.manifests.resources if loaded else ()
    uri, writes = connect or project.connection, writing(lock_timeout, False)
    with open_session(uri, project.name, resources, writing=writes, claim=project.claim()) as session:
        yield session
