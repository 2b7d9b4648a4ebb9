"""What commands that write units of systemd share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmstate.errors import UsageError
from kvmstate.model.printable import harmless

if TYPE_CHECKING:
    from kvmstate.service.files import File

root_option = click.option(
    "--root",
    default="/",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Of another system, such as an image: files are written, nothing is started.",
)
force_option = click.option("--force", is_flag=True, help="Also what a person has edited.")


def write(files: Sequence[File], force: bool) -> bool:
    """Write those that are not as they should be, and say so of each. Whether there were any. Raises UsageError where
    a person has edited one, unless that is to be overwritten by `force`; nothing is written then."""
    from kvmstate.service.files import Standing

    standings = {file: file.standing for file in files}
    if not force and (edited := [file for file, how in standings.items() if how is Standing.FOREIGN]):
        raise UsageError(
            f"{edited[0].path} was edited: nothing was written",
            "`systemctl edit` keeps your changes apart; --force overwrites it",
        )
    news = [file for file, how in standings.items() if how is not Standing.SAME]
    for file in files:
        if file in news:
            file.write()
        click.echo(harmless(f"{'wrote' if file in news else 'unchanged'} {file.path}"))
    return bool(news)


def remove(files: Sequence[File], force: bool) -> None:
    """Remove those that nobody has edited, or all by `force`, and say so of each. Raises UsageError."""
    from kvmstate.service.files import Standing

    for file in files:
        if file.standing is Standing.FOREIGN and not force:
            click.echo(harmless(f"left {file.path}: it was edited"))
        elif file.standing is not Standing.ABSENT:
            file.remove()
            click.echo(harmless(f"removed {file.path}"))


def program() -> Path:
    """The command that is running, as an absolute path."""
    found = shutil.which(sys.argv[0]) or shutil.which("kvmstate") or ""
    if Path(found).name != "kvmstate":
        found = str(Path(sys.executable).with_name("kvmstate"))
    return Path(os.path.abspath(found))


def call(*words: str) -> str:
    """What it printed. Raises UsageError."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{words[0]}: {error.strerror}", "a service needs systemd") from None
    if done.returncode:
        raise UsageError(f"`{' '.join(words)}`: {done.stderr.strip() or done.returncode}")
    return done.stdout
