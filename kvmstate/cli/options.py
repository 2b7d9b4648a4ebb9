"""The options that commands share, and what they mean: a project and its manifests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kvmstate.errors import KvmstateError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kvmstate.manifest import Manifests, Project
    from kvmstate.manifest.providers import Providers
    from kvmstate.model.resource import ResourceId

# commands whose [PATH]... may be addresses
TAKE_ADDRESSES = ("adopt", "recreate")
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Inputs:
    """What the command line says about manifests; `project()` and `load()` read the files.

    `name` is the project's, where no file says it. `allowed` are folders in which files may name what lies there,
    beside the project's. `confined`: these manifests are nobody's whom this machine trusts, and choose no connection.
    `secrets` say where values are, and so do `secrets_files`.
    """

    paths: tuple[Path, ...] = ()
    connect: str | None = None
    env: str | None = None
    values: tuple[Path, ...] = ()
    set_values: tuple[str, ...] = ()
    name: str | None = None
    allowed: tuple[Path, ...] = ()
    confined: bool = False
    secrets: tuple[str, ...] = ()
    secrets_files: tuple[Path, ...] = ()

    def load(self, project: Project | None = None, valued: bool = False) -> Loaded:
        """The manifests, of the `project()` that they belong to; `valued`: with the values of their secrets. Raises
        ManifestErrors and UsageError."""
        project = project or self.project()
        paths = self._manifests()
        whole = project.file is None or not paths
        asked = (lambda: self._providers(project)) if valued else None
        return Loaded(project, project.load(paths, asked), self, whole)

    def _providers(self, project: Project) -> Providers:
        from kvmstate.manifest.providers import providers

        files = self.secrets_files or tuple(map(Path, filter(None, [os.environ.get("KVMSTATE_SECRETS")])))
        given = [path if path.is_dir() else path.parent for path in self.paths if str(path) != "-"]
        return providers(self.secrets, files, (*project.roots, *given))

    def uri(self, project: Project) -> str | None:
        """The connection asked for by option, else the project's, else None: libvirt's own rule. Raises UsageError."""
        if self.connect or not project.connection or not self.confined:
            return self.connect or project.connection
        if os.environ.get("LIBVIRT_DEFAULT_URI"):
            return None
        raise UsageError(
            "these manifests are confined: the connection that kvmstate.yaml names is not used",
            "name the host with -c URI",
        )

    def project(self) -> Project:
        """The one project that all paths belong to. Raises UsageError when they belong to several, or are not there."""
        from kvmstate.manifest.project import find_project, load_project

        places = [Path(".") if str(path) == "-" else path for path in self.paths] or [Path(".")]
        if missing := next((place for place in places if not os.path.lexists(place)), None):
            raise UsageError(f"{missing}: no such file or folder")
        files = {find_project(place) for place in places}
        if len(files) > 1:
            names = ", ".join(sorted(str(file or "none") for file in files))
            raise UsageError(f"these manifests belong to different projects: {names}", "run one project at a time")
        return load_project(places[0], self.env, self.set_values, self.values, name=self.name, allowed=self.allowed)

    def _manifests(self) -> tuple[Path, ...]:
        """The paths given; one that is a project's folder or file means what the project says."""
        from kvmstate.manifest.sources import PROJECT_FILE

        if len(self.paths) == 1:
            path = self.paths[0]
            if path.name == PROJECT_FILE or os.path.lexists(path / PROJECT_FILE):
                return ()
        return self.paths


@dataclass(frozen=True)
class Loaded:
    """`whole` is false for some of a project's files: they say nothing about what the others declare."""

    project: Project
    manifests: Manifests
    asked: Inputs
    whole: bool = True

    @property
    def uri(self) -> str | None:
        """The connection's URI; see `Inputs.uri`."""
        return self.asked.uri(self.project)


class SecretFile(click.Path):
    """A file that only its owner may read: `kvmstate service` has systemd hand it over."""


def connect_option(command: F) -> F:
    return click.option(
        "-c", "--connect", metavar="URI", callback=_not_empty, help="The host, such as qemu:///system."
    )(command)


def _not_empty(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    # of a variable that is not set: another host than was meant
    if text is not None and not text.strip():
        raise click.BadParameter("it is empty; leave it out for the default host")
    return text


def project_option(command: F) -> F:
    return click.option(
        "--project",
        metavar="NAME",
        callback=name_given,
        help="The project, where there is no kvmstate.yaml that says it.",
    )(command)


def name_given(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    from kvmstate.manifest.project import NAME_PATTERN

    if name is not None and (not re.fullmatch(NAME_PATTERN, name) or len(name) > 63):
        raise click.BadParameter(f"{name!r}: letters, digits, and between them . _ -")
    return name


def paths_argument(command: F) -> F:
    return click.argument(
        "paths",
        metavar="[PATH]...",
        nargs=-1,
        shell_complete=_complete_paths,
        type=click.Path(path_type=Path, allow_dash=True),
    )(command)


def env_option(command: F) -> F:
    return click.option("--env", metavar="NAME", help="An environment of kvmstate.yaml.")(command)


def allow_path_option(command: F) -> F:
    return click.option(
        "--allow-path",
        "allowed",
        metavar="DIR",
        multiple=True,
        type=click.Path(path_type=Path),
        help="What lies there may be named in manifests and kvmstate.yaml too. Repeatable. Also: $KVMSTATE_ALLOW_PATH.",
    )(command)


def folder_option(command: F, what: str = "Where kvmstate.yaml is.") -> F:
    """-C: the folder of a command that is given no PATH."""
    return click.option(
        "-C",
        "folder",
        metavar="FOLDER",
        default=".",
        type=click.Path(path_type=Path, exists=True),
        help=f"{what} Default: here.",
    )(command)


def values_options(command: F) -> F:
    """PATH..., --env, --values, --set, --secret, --secrets, --allow-path: what is read of a project's files."""
    for decorate in (
        allow_path_option,
        click.option(
            "--secrets",
            "secrets_files",
            metavar="FILE",
            multiple=True,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Where values of secrets are, a line each: NAME: PROVIDER:PLACE. Not in the project's folder. "
            "Repeatable. Also: $KVMSTATE_SECRETS.",
        ),
        click.option(
            "--secret",
            "secrets",
            metavar="NAME=PROVIDER:PLACE",
            multiple=True,
            help="Where the value of a secret is: file:PATH, env:VARIABLE, sops:FILE#KEY, age:FILE#IDENTITY, "
            "pass:NAME, systemd-creds:FILE, credential:NAME. Repeatable.",
        ),
        click.option(
            "--set", "set_values", metavar="NAME=VALUE", multiple=True, help="One value for templates. Repeatable."
        ),
        click.option(
            "--values",
            metavar="FILE",
            multiple=True,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Values for templates; the later wins. Repeatable.",
        ),
        env_option,
        paths_argument,
    ):
        command = decorate(command)
    return command


def confined_option(command: F) -> F:
    return click.option(
        "--confined",
        is_flag=True,
        help="For the manifests of strangers: kvmstate.yaml chooses no host, -c or LIBVIRT_DEFAULT_URI does.",
    )(command)


def manifest_options(command: F) -> F:
    """What is read of a project's files, and whether they choose the host; for `inputs(**options)`."""
    return values_options(confined_option(command))


def inputs(
    paths: tuple[Path, ...],
    env: str | None = None,
    values: tuple[Path, ...] = (),
    set_values: tuple[str, ...] = (),
    connect: str | None = None,
    project: str | None = None,
    allowed: tuple[Path, ...] = (),
    confined: bool = False,
    secrets: tuple[str, ...] = (),
    secrets_files: tuple[Path, ...] = (),
) -> Inputs:
    allowed = (*allowed, *allowed_here())
    return Inputs(paths, connect, env, values, set_values, project, allowed, confined, secrets, secrets_files)


def complete_addresses(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: the addresses of what the manifests of this folder declare."""
    return [address for address in map(str, _declared()) if address.startswith(incomplete)]


def _declared() -> list[ResourceId]:
    try:
        return sorted(resource.id for resource in inputs(()).load().manifests.resources)
    except KvmstateError:
        # the command itself will say what is wrong
        return []


def _complete_paths(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    if context.command.name in TAKE_ADDRESSES:
        found = complete_addresses(context, parameter, incomplete)
        return [CompletionItem(address) for address in found]
    return [CompletionItem(incomplete, type="file")]


def split_addresses(paths: tuple[Path, ...]) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Addresses such as domain/web-1 or 'volume/images/*', and the paths of files and folders; what is there counts as
    a path."""
    from kvmstate.kinds import BY_NAME, BY_WORD

    kinds = {*BY_NAME, *BY_WORD}
    named = tuple(str(p) for p in paths if len(p.parts) > 1 and p.parts[0] in kinds and not p.exists())
    return named, tuple(path for path in paths if str(path) not in named)


def allowed_here() -> tuple[Path, ...]:
    """The folders that the environment allows."""
    return tuple(map(Path, filter(None, os.environ.get("KVMSTATE_ALLOW_PATH", "").split(os.pathsep))))


def credential(text: str) -> tuple[str, Path]:
    """NAME:FILE. Raises click's BadParameter."""
    name, _, file = text.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or not file:
        raise click.BadParameter(f"{text!r}: expected NAME:FILE, such as slack:/etc/kvmstate/slack")
    return name, Path(os.path.abspath(file))
