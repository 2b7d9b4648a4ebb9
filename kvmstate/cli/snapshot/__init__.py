"""kvmstate snapshot: snapshots of virtual machines."""

from __future__ import annotations

import click

from kvmstate.cli.snapshot import run


@click.group("snapshot")
def command() -> None:
    """Snapshots of virtual machines."""


command.add_command(run.command)
