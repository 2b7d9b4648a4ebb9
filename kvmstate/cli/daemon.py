"""What commands that ask a running daemon share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmstate.cli.options import F
from kvmstate.errors import UsageError

if TYPE_CHECKING:
    from kvmstate.web.client import Client


def daemon_options(command: F) -> F:
    """--daemon and --token-file; see `client`."""
    for decorate in (
        click.option(
            "--token-file", metavar="FILE", type=click.Path(path_type=Path), help="The token that the daemon asks for."
        ),
        click.option(
            "--daemon",
            metavar="ADDRESS",
            help="Where the daemon listens: unix:PATH, 127.0.0.1:PORT, https://HOST:PORT. Default: $KVMSTATE_DAEMON, "
            "else the project's socket.",
        ),
    ):
        command = decorate(command)
    return command


def client(daemon: str | None, token_file: Path | None, project: str) -> Client:
    """Make a client of the daemon that listens there. Raises UsageError."""
    from kvmstate.web.address import find
    from kvmstate.web.client import Client

    try:
        token = token_file.read_text(encoding="utf-8").strip() if token_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {token_file}: {getattr(error, 'strerror', None) or error}") from None
    return Client(daemon or os.environ.get("KVMSTATE_DAEMON") or find(project), token)
