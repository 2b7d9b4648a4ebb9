"""`kvmstate snapshot revert`."""

from __future__ import annotations

import click

from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import AUTO_APPROVE, DRY_RUN, MACHINE, host_at, say
from kvmstate.model.printable import one_line


@click.command("revert")
@MACHINE
@click.argument("snapshot")
@connect_option
@DRY_RUN
@AUTO_APPROVE
def revert(machine: str, snapshot: str, connect: str | None, dry_run: bool, auto_approve: bool) -> int:
    """Bring a VM's disks back to a snapshot, with its memory where that was kept.

    What was written since the latest snapshot is lost; all snapshots stay. A running VM is stopped, and started again.
    """
    from kvmstate.cli.approve import approve
    from kvmstate.snapshots.revert import loss, revert

    with host_at(connect) as host:
        found = loss(host, machine, snapshot)
        for path in found.dropped:
            click.echo(f"  - what was written to {one_line(path)} since the latest snapshot is lost")
        for line in found.since:
            click.echo(f"  {one_line(line)}  (configuration changed since the snapshot; it stays as it is now)")
        if dry_run:
            click.echo(f"would revert {machine} to {snapshot}")
            return 0
        if not auto_approve:
            approve(f"Do you want to revert {machine} to {snapshot}?")
        revert(host, machine, snapshot, say)
    click.echo(f"reverted {machine} to {snapshot}")
    return 0
