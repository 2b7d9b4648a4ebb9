"""The options of `kvmstate run` that say where it answers over HTTP, and whom."""

from __future__ import annotations

from pathlib import Path

import click

from kvmstate.cli.options import F, SecretFile

FILE, SECRET = click.Path(path_type=Path), SecretFile(path_type=Path)


def listen_options(command: F) -> F:
    """--listen, and who may ask there."""
    for decorate in (
        click.option("--tls-key", type=SECRET, metavar="FILE", help="The certificate's private key, PEM."),
        click.option("--tls-cert", type=FILE, metavar="FILE", help="Answer over TLS: the certificate chain, PEM."),
        click.option(
            "--token-file", type=SECRET, metavar="FILE", help="Answer only who sends this: Authorization: Bearer TOKEN."
        ),
        click.option(
            "--listen",
            default="auto",
            metavar="ADDRESS",
            help="Where to answer over HTTP: unix:PATH, 127.0.0.1:PORT, [::1]:PORT, another address with a token and "
            "TLS, or none. Default: the project's socket in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR/kvmstate.",
        ),
    ):
        command = decorate(command)
    return command
