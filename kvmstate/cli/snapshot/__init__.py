"""kvmstate snapshot: snapshots of virtual machines."""

from __future__ import annotations

import click

from kvmstate.cli.snapshot import create, look, merge, revert, run


@click.group("snapshot")
def command() -> None:
    """Snapshots of virtual machines: external ones (chains of overlays) on every libvirt, and internal ones."""


for each in (create.create, look.list_, look.tree, look.show_, revert.revert, merge.delete, merge.merge, merge.flatten):
    command.add_command(each)
command.add_command(run.command)
