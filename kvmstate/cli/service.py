"""`kvmstate service`: `kvmstate run` as a service of systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvmstate.cli.forwards_service import forwards
from kvmstate.cli.guests_service import guests
from kvmstate.cli.options import credential
from kvmstate.cli.units import call, force_option, program, remove, root_option, write
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


command.add_command(guests)
command.add_command(forwards)


def _project(context: click.Context, option: click.Parameter, name: str) -> str:
    from kvmstate.manifest.project import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, name) or len(name) > 63:
        raise click.BadParameter(f"{name!r}: letters, digits, and between them . _ -")
    return name


def _credentials(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> list[Secret]:
    from kvmstate.service.units import Secret

    return [Secret(name, path) for name, path in map(credential, given)]


_PROJECT = click.option("--project", required=True, metavar="NAME", callback=_project, help="The instance.")


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
            root_option,
            click.argument("run", metavar="[RUN OPTION]...", nargs=-1, type=click.UNPROCESSED),
        )
    ):
        command = decorate(command)
    return command


@command.command(context_settings=_RUN)
@_service_options
@click.option("--enable", is_flag=True, help="Start it now and at boot.")
@force_option
def install(enable: bool, force: bool, **given: Any) -> None:
    """Write the units of a project's service.

    All options of `kvmstate run` may be given, and are what it runs with: --git URL, --branch NAME, -c URI and so on.
    Keys and tokens are read by root and handed over by systemd, so that nobody else needs to read them.
    """
    service = _service(**given)
    changed = write(service.files, force)
    if service.root != Path("/"):
        if enable:
            call("systemctl", f"--root={service.root}", "enable", service.unit)
        return
    if changed:
        call("systemd-sysusers", str(service.users.path))
        call("systemctl", "daemon-reload")
    _complain(service)
    if enable:
        call("systemctl", "enable", service.unit)
        # not waited for: a first pass takes as long as it takes
        call("systemctl", "--no-block", "restart" if changed else "start", service.unit)
        click.echo(f"started {service.unit}: `systemctl status {service.unit}` says how it is")
    else:
        click.echo(f"\nNext:\n  systemctl enable --now {service.unit}")


@command.command()
@_PROJECT
@root_option
@force_option
def uninstall(project: str, root: Path, force: bool) -> None:
    """Stop a project's service and remove its units.

    What the project owns on the host is not touched.
    """
    from kvmstate.service.units import Service

    service = Service(project, Path("kvmstate"), root=root)
    folder = service.drop_in.path.parent
    if not folder.is_dir():
        raise UsageError(f"there is no service of {project}: no {folder}")
    others = [other for other in folder.parent.glob("kvmstate@*.service.d") if other not in (folder, folder.parent)]
    doomed = [service.drop_in] if others else [service.drop_in, service.template, service.users]
    if root == Path("/"):
        call("systemctl", "disable", "--now", service.unit)
    else:
        call("systemctl", f"--root={root}", "disable", service.unit)
    remove(doomed, force)
    if not any(folder.iterdir()):
        folder.rmdir()
    if root == Path("/"):
        call("systemctl", "daemon-reload")


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
        project, program(), arguments(words, checked=here), user, root, _systemd() if here else 0, credentials
    )


def _systemd() -> int:
    """The version of the systemd that runs here; 0 when there is none."""
    said = re.match(r"systemd (\d+)", call("systemctl", "--version")) if shutil.which("systemctl") else None
    return int(said[1]) if said else 0


def _complain(service: Service) -> None:
    """Where the service's user cannot read what it needs."""
    user = service.user or "kvmstate"
    for path in [service.program, *(argument for argument in service.arguments if isinstance(argument, Path))]:
        if subprocess.run(["runuser", "-u", user, "--", "test", "-r", path], check=False).returncode:
            click.echo(harmless(f"warning: the user {user} cannot read {path}"), err=True)
