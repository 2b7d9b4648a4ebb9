"""The options of `kvmstate run` that say from which git repository the manifests come."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvmstate.cli.options import SecretFile
from kvmstate.errors import UsageError

if TYPE_CHECKING:
    from kvmstate.sources.git import Git, GitSource

F = TypeVar("F", bound=Callable[..., object])
FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)
SECRET = SecretFile(path_type=Path, exists=True, dir_okay=False, readable=True)


def _duration(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    from kvmstate.model.quantity import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None
    if not seconds:
        raise click.BadParameter("at least 1s")
    return seconds


# Each with the field of Git that it sets; none has a default here, so that what was given is known
OPTIONS = {
    "url": click.option(
        "--git", "git_url", metavar="URL", help="Manifests come from this repository (https, ssh, a path)."
    ),
    "branch": click.option(
        "--branch", "git_branch", metavar="NAME", help="A branch of --git. Default: the remote's HEAD."
    ),
    "tag": click.option("--tag", "git_tag", metavar="NAME", help="A tag of --git, instead of a branch."),
    "path": click.option(
        "--path", "git_path", metavar="FOLDER", help="Folder of the manifests in --git. Default: its top."
    ),
    "interval": click.option(
        "--git-interval", metavar="DURATION", callback=_duration, help="Polling interval of --git. Default: 1m."
    ),
    "timeout": click.option(
        "--git-timeout", metavar="DURATION", callback=_duration, help="Time limit of a git command. Default: 2m."
    ),
    "depth": click.option(
        "--git-depth", metavar="N", type=click.IntRange(0), help="Commits fetched at first; 0: all. Default: 1."
    ),
    "ssh_key": click.option(
        "--ssh-key", "git_ssh_key", metavar="FILE", type=SECRET, help="The private key for --git. Default: the user's."
    ),
    "known_hosts": click.option(
        "--known-hosts",
        "git_known_hosts",
        metavar="FILE",
        type=FILE,
        help="The ssh servers' keys, instead of the user's.",
    ),
    "token": click.option(
        "--git-token-file", "git_token", metavar="FILE", type=SECRET, help="Holds the token or password for https."
    ),
    "verify_ssh": click.option(
        "--verify-ssh",
        "git_verify_ssh",
        metavar="FILE",
        type=FILE,
        help="Allowed signers (ssh-keygen(1)): take only what one of them signed.",
    ),
    "verify_gpg": click.option(
        "--verify-gpg",
        "git_verify_gpg",
        metavar="FILE",
        type=FILE,
        help="Public keys: take only what one of them signed.",
    ),
    "on_rewrite": click.option(
        "--on-rewrite",
        "git_on_rewrite",
        type=click.Choice(["follow", "hold"]),
        help="After a force-push, a rollback or a moved tag: take it, or stay. Default: follow; with --verify-ssh or "
        "--verify-gpg hold, and what is older than the revision in force is never taken.",
    ),
}


CACHE = click.option(
    "--git-cache",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the last good revision is kept: one daemon's own. Default: in systemd's cache folder, or the user's.",
)


def git_options(command: F) -> F:
    """The command takes them with `git_source(given)`."""
    for option in (CACHE, *reversed(OPTIONS.values())):
        command = option(command)
    return command


def git_source(given: dict[str, Any]) -> GitSource | None:
    """The options, opened; see `git_settings`. Raises SourceError."""
    cache = given.pop("git_cache")
    settings = git_settings(given)
    if settings is None:
        return None
    if given["paths"]:
        raise UsageError("manifests come either from PATH or from --git", "--path is a folder in the repository")
    from kvmstate.sources.git import GitSource

    return GitSource(settings, cache or _cache(settings))


def _cache(settings: Git) -> Path:
    # several with colons between, by systemd.exec(5)
    service = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmstate"
    what = f"{settings.url}\0{settings.ref}\0{settings.path}"
    return (Path(service) if service else user) / "git" / hashlib.sha256(what.encode()).hexdigest()[:16]


def git_settings(given: dict[str, Any]) -> Git | None:
    """Takes the options out of `given`; None without --git. Raises UsageError for what does not fit together."""
    said = {field: value for field in OPTIONS if (value := given.pop(f"git_{field}")) is not None}
    if "url" not in said:
        if said:
            first = next(p for p in click.get_current_context().command.params if p.name == f"git_{next(iter(said))}")
            raise UsageError(f"{first.opts[0]} is for --git, which is not given", "name a repository with --git URL")
        return None
    from kvmstate.sources.git import Git

    return Git(**said)
