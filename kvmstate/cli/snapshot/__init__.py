"""kvmstate snapshot: snapshots of virtual machines."""

from __future__ import annotations

import click

from kvmstate.cli.snapshot import create, look, merge, revert, run


@click.group("snapshot")
def command() -> None:
    """Take, list, revert and delete snapshots of virtual machines.

    Snapshots are external (chains of overlays), on every version of libvirt; create can also take internal ones."""


for each in (create.create, look.list_, look.tree, look.show_, revert.revert, merge.delete, merge.merge, merge.flatten):
    command.add_command(each)
command.add_command(run.command)
