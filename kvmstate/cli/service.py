"""`kvmstate service`: `kvmstate run` as a service of systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvmstate.cli.options import credential
from kvmstate.errors import UsageError
from kvmstate.model.printable import harmless

if TYPE_CHECKING:
    from kvmstate.service.units import Secret, Service

F = TypeVar("F", bound=Callable[..., object])
# what is not known here is for `kvmstate run`
_RUN = {"ignore_unknown_options": True}


@click.group("service")
def command() -> None:
    """Run projects under systemd.

    Each project is an instance of kvmstate@.service, which runs `kvmstate run`."""


def _project(context: click.Context, option: click.Parameter, name: str) -> str:
    from kvmstate.manifest.project import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, name) or len(name) > 63:
        raise click.BadParameter(f"{name!r}: letters, digits, and between them . _ -")
    return name


def _credentials(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> list[Secret]:
    from kvmstate.service.units import Secret

    return [Secret(name, path) for name, path in map(credential, given)]


_PROJECT = click.option("--project", required=True, metavar="NAME", callback=_project, help="The instance.")
_ROOT = click.option(
    "--root",
    default="/",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Of another system, such as an image: files are written, nothing is started.",
)
_FORCE = click.option("--force", is_flag=True, help="Also what a person has edited.")


def _service_options(command: F) -> F:
    for decorate in reversed(
        (
            _PROJECT,
            click.option("--user", metavar="USER", default="", help="Use this user instead of creating kvmstate."),
            click.option(
                "--manifests",
                metavar="DIR",
                type=click.Path(path_type=Path),
                help="The manifests. Default: /etc/kvmstate/NAME.",
            ),
            click.option(
                "--credential",
                "credentials",
                metavar="NAME:FILE",
                multiple=True,
                callback=_credentials,
                help="A secret that the notifications of kvmstate.yaml name, only for root to read. Repeatable.",
            ),
            _ROOT,
            click.argument("run", metavar="[RUN OPTION]...", nargs=-1, type=click.UNPROCESSED),
        )
    ):
        command = decorate(command)
    return command


@command.command(context_settings=_RUN)
@_service_options
@click.option("--enable", is_flag=True, help="Start it now and at boot.")
@_FORCE
def install(enable: bool, force: bool, **given: Any) -> None:
    """Write the units of a project's service.

    All options of `kvmstate run` may be given, and are what it runs with: --git URL, --branch NAME, -c URI and so on.
    Keys and tokens are read by root and handed over by systemd, so that nobody else needs to read them.
    """
    service = _service(**given)
    from kvmstate.service.files import Standing

    standings = {file: file.standing for file in service.files}
    if not force and (edited := [file for file, how in standings.items() if how is Standing.FOREIGN]):
        raise UsageError(
            f"{edited[0].path} was edited: nothing was written",
            "`systemctl edit` keeps your changes apart; --force overwrites it",
        )
    news = [file for file, how in standings.items() if how is not Standing.SAME]
    for file in service.files:
        if file in news:
            file.write()
        click.echo(harmless(f"{'wrote' if file in news else 'unchanged'} {file.path}"))
    _take_on(service, enable, bool(news))


def _take_on(service: Service, enable: bool, changed: bool) -> None:
    if service.root != Path("/"):
        if enable:
            _call("systemctl", f"--root={service.root}", "enable", service.unit)
        return
    if changed:
        _call("systemd-sysusers", str(service.users.path))
        _call("systemctl", "daemon-reload")
    _complain(service)
    if enable:
        _call("systemctl", "enable", service.unit)
        # not waited for: a first pass takes as long as it takes
        _call("systemctl", "--no-block", "restart" if changed else "start", service.unit)
        click.echo(f"started {service.unit}: `systemctl status {service.unit}` says how it is")
    else:
        click.echo(f"\nNext:\n  systemctl enable --now {service.unit}")


@command.command()
@_PROJECT
@_ROOT
@_FORCE
def uninstall(project: str, root: Path, force: bool) -> None:
    """Stop a project's service and remove its units.

    What the project owns on the host is not touched.
    """
    from kvmstate.service.files import Standing
    from kvmstate.service.units import Service

    service = Service(project, Path("kvmstate"), root=root)
    folder = service.drop_in.path.parent
    if not folder.is_dir():
        raise UsageError(f"there is no service of {project}: no {folder}")
    others = [other for other in folder.parent.glob("kvmstate@*.service.d") if other not in (folder, folder.parent)]
    doomed = [service.drop_in] if others else [service.drop_in, service.template, service.users]
    if root == Path("/"):
        _call("systemctl", "disable", "--now", service.unit)
    else:
        _call("systemctl", f"--root={root}", "disable", service.unit)
    for file in doomed:
        if file.standing is Standing.FOREIGN and not force:
            click.echo(harmless(f"left {file.path}: it was edited"))
        elif file.standing is not Standing.ABSENT:
            file.remove()
            click.echo(harmless(f"removed {file.path}"))
    if not any(folder.iterdir()):
        folder.rmdir()
    if root == Path("/"):
        _call("systemctl", "daemon-reload")


@command.command(context_settings=_RUN)
@_service_options
def show(**given: Any) -> None:
    """Print what `install` would write."""
    for number, file in enumerate(_service(**given).files):
        click.echo(harmless(f"{'' if number == 0 else chr(10)}# {file.path}\n{file.body}"), nl=False)


def _service(
    project: str, user: str, manifests: Path | None, credentials: list[Secret], root: Path, run: tuple[str, ...]
) -> Service:
    """Raises UsageError."""
    from kvmstate.cli.run_arguments import arguments
    from kvmstate.service.units import Service

    root = root.absolute()
    words = (*run, *([str(manifests)] if manifests else []))
    here = root == Path("/")
    return Service(
        project, _program(), arguments(words, checked=here), user, root, _systemd() if here else 0, credentials
    )


def _systemd() -> int:
    """The version of the systemd that runs here; 0 when there is none."""
    said = re.match(r"systemd (\d+)", _call("systemctl", "--version")) if shutil.which("systemctl") else None
    return int(said[1]) if said else 0


def _program() -> Path:
    """The command that is running, as an absolute path."""
    found = shutil.which(sys.argv[0]) or shutil.which("kvmstate") or ""
    if Path(found).name != "kvmstate":
        found = str(Path(sys.executable).with_name("kvmstate"))
    return Path(os.path.abspath(found))


def _complain(service: Service) -> None:
    """Where the service's user cannot read what it needs."""
    user = service.user or "kvmstate"
    for path in [service.program, *(argument for argument in service.arguments if isinstance(argument, Path))]:
        if subprocess.run(["runuser", "-u", user, "--", "test", "-r", path], check=False).returncode:
            click.echo(harmless(f"warning: the user {user} cannot read {path}"), err=True)


def _call(*words: str) -> str:
    """What it printed. Raises UsageError."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{words[0]}: {error.strerror}", "a service needs systemd") from None
    if done.returncode:
        raise UsageError(f"`{' '.join(words)}`: {done.stderr.strip() or done.returncode}")
    return done.stdout
