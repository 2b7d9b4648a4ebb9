"""What commands that talk to a host share: their options, and a session from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvmstate.cli.options import complete_addresses, connect_option, inputs, manifest_options, project_option
from kvmstate.errors import PlanError, UsageError
from kvmstate.model.printable import harmless

if TYPE_CHECKING:
    from kvmstate.app import Session, Writing
    from kvmstate.manifest import Manifests, Project
    from kvmstate.model.plan import Plan
    from kvmstate.plan import Options
    from kvmstate.plan.saved import SavedPlan

F = TypeVar("F", bound=Callable[..., object])
UNNAMED = "say --project NAME, or write a kvmstate.yaml that names it (`kvmstate init` does)"


@dataclass(frozen=True)
class Opened:
    """A project's session on its host, and what was asked of plans. `whole`: of all of the project's manifests."""

    session: Session
    options: Options
    whole: bool = False
    project: Project | None = None
    manifests: Manifests | None = None

    def state(self) -> Plan:
        """Plan, to show how everything is: what a plan refuses as a whole is said about the resource that it is
        about."""
        return replace(self, options=replace(self.options, allow_empty=False, lenient=True)).plan()

    def plan(self) -> Plan:
        """Plan, and add what no policy looks after any more."""
        plan = self.session.plan(self.options)
        return self.session.with_leftovers(plan) if self.whole else plan


def host_options(command: F) -> F:
    """PATH..., -c, --project, --env, --values, --set; see `opened`."""
    for decorate in (connect_option, project_option, manifest_options):
        command = decorate(command)
    return command


def empty_option(command: F) -> F:
    return click.option("--allow-empty", is_flag=True, help="Accept manifests that declare nothing.")(command)


def deletion_options(command: F) -> F:
    """Whether what was removed from the manifests is deleted, and how much of it; with `empty_option`."""
    for decorate in (
        click.option(
            "--max-deletes",
            type=click.IntRange(0),
            metavar="N",
            help="Refuse to delete more than this; just so many are never too large a share. Default: 10.",
        ),
        click.option(
            "--max-delete-share",
            metavar="PERCENT",
            callback=_share,
            help="Refuse to delete more of what is owned, such as 50%. Default: as kvmstate.yaml says, else a third.",
        ),
        empty_option,
        click.option("--prune/--no-prune", default=None, help="Delete owned resources that are not declared any more."),
    ):
        command = decorate(command)
    return command


def claim_options(command: F) -> F:
    for decorate in (
        click.option(
            "--allow-environment-change",
            "change_environment",
            is_flag=True,
            help="Take what another environment of the project owns on the host.",
        ),
        click.option(
            "--take-ownership", is_flag=True, help="Take what another project of the same name owns on the host."
        ),
    ):
        command = decorate(command)
    return command


def parallelism_option(command: F) -> F:
    return click.option(
        "--parallelism", default=10, show_default=True, type=click.IntRange(1), metavar="N", help="Resources at a time."
    )(command)


def quiet_option(command: F) -> F:
    return click.option("--quiet", "-q", is_flag=True, help="Only the outcome, and what goes wrong or is blocked.")(
        command
    )


def lock_option(command: F, default: str = "0s") -> F:
    return click.option(
        "--lock-timeout",
        default=default,
        show_default=True,
        metavar="DURATION",
        callback=seconds,
        help="Wait this long for another run on this project to end.",
    )(command)


def seconds(context: click.Context, option: click.Parameter, text: str) -> int:
    from kvmstate.model.quantity import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


def _share(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    from kvmstate.manifest.project import share

    try:
        return share(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


def selection_options(command: F) -> F:
    for decorate in (
        click.option(
            "--exclude",
            "excludes",
            multiple=True,
            metavar="ADDRESS",
            shell_complete=complete_addresses,
            help="Leave this out, and what needs it. Repeatable.",
        ),
        click.option(
            "--target",
            "targets",
            multiple=True,
            metavar="ADDRESS",
            shell_complete=complete_addresses,
            help="Only this, such as domain/web-1 or 'volume/images/*', and what it needs. Repeatable.",
        ),
    ):
        command = decorate(command)
    return command


def no_manifests(folders: tuple[str, ...], hint: str) -> tuple[str, str]:
    """Message and hint for folders without manifests."""
    return f"there are no manifests in {', '.join(folders)} (*.yaml, *.yml, *.yaml.j2, *.yml.j2)", hint


def warn(warnings: tuple[str, ...]) -> None:
    for text in warnings:
        click.echo(harmless(f"warning: {text}"), err=True)


@contextmanager
def opened(
    prune: bool | None = None,
    allow_empty: bool | None = None,
    max_deletes: int | None = None,
    max_delete_share: float | None = None,
    lock_timeout: int | None = None,
    repair: bool = False,
    targets: tuple[str, ...] = (),
    excludes: tuple[str, ...] = (),
    take_ownership: bool = False,
    change_environment: bool = False,
    claimed: bool = True,
    **given: Any,
) -> Iterator[Opened]:
    """Open a session of a project, as the options say. With `lock_timeout` (seconds) the session may write; see
    `Writing`. With `claimed` it is an error when what the project owns on the host is that of another one.

    Raises ManifestErrors, UsageError, ConnectionFailed, Locked, PlanError and HostError.
    """
    asked = inputs(**given)
    project = asked.project()
    from kvmstate.app import Ahead, open_session
    from kvmstate.plan import Options

    if not project.named and (prune or repair):
        raise UsageError("nothing says which project this is: there is no kvmstate.yaml", UNNAMED)
    uri = asked.uri(project)
    with ExitStack() as stack:
        ahead = None
        if not targets:
            ahead = Ahead(uri, project.name, project.prune if prune is None else prune, bool(prune))
            stack.callback(ahead.leave)
        loaded = asked.load(project, valued=True)
        manifests = loaded.manifests
        if manifests.empty and not allow_empty:
            hint = "name the folder that has them" if allow_empty is None else "if that is meant, say --allow-empty"
            raise UsageError(*no_manifests(manifests.empty, hint))
        warn(manifests.warnings)
        wanted = project.prune and loaded.whole if prune is None else prune
        options = Options(
            wanted,
            bool(allow_empty),
            Options.max_deletes if max_deletes is None else max_deletes,
            targets,
            excludes,
            project.moves,
            nameless=not project.named,
            max_delete_share=project.max_delete_share if max_delete_share is None else max_delete_share,
            meant=max_deletes,
            rollout=project.rollout,
        )
        writes = None if lock_timeout is None else writing(lock_timeout, repair)
        claim = project.claim(take_ownership, change_environment) if claimed else None
        session = open_session(uri, project.name, manifests.resources, manifests.place, writes, claim, ahead)
        yield Opened(stack.enter_context(session), options, loaded.whole, project, manifests)


@contextmanager
def opened_saved(plan: SavedPlan, connect: str | None, lock_timeout: int) -> Iterator[Opened]:
    """A session that may write, for a saved plan: on its own host unless `connect` is another way to it.

    Raises PlanError when the plan's own way there is not one that a file may choose, ConnectionFailed, Locked and
    HostError.
    """
    from kvmstate.app import open_session
    from kvmstate.model.identity import Claim

    uri = connect or _host_of(plan)
    writes = writing(lock_timeout, False)
    # whose the record is was judged when the plan was made; that it is as it was then, is seen when it is restored
    mine = plan.identity
    claim = Claim(mine.id, mine.environment, True, True) if mine else None
    with open_session(uri, plan.project, plan.resources, writing=writes, claim=claim) as session:
        yield Opened(session, plan.options)


def _host_of(plan: SavedPlan) -> str | None:
    """None for the host that libvirt's own rule chooses here."""
    from kvmstate.model.uri import Refused, check, redacted

    default = os.environ.get("LIBVIRT_DEFAULT_URI")
    if default and redacted(default) == plan.host:
        return None
    try:
        return check(plan.host)
    except Refused as why:
        raise PlanError(
            f"the plan's connection {redacted(plan.host)} is not taken from a file: {why}",
            "give the way to its host with -c URI",
        ) from None


def writing(lock_timeout: int, repair: bool) -> Writing:
    """What this command says of itself while it holds the project's lock."""
    from kvmstate.app import Writing

    command = click.get_current_context().command_path.removeprefix("kvmstate ")
    return Writing(command, lock_timeout, lambda text: click.echo(harmless(text), err=True), repair)
