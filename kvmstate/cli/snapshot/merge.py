"""`kvmstate snapshot delete`, `merge` and `flatten`: shorter chains, the same contents."""

from __future__ import annotations

import click

from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import AUTO_APPROVE, DRY_RUN, MACHINE, MACHINES, Progress, each, host_at, say
from kvmstate.model.printable import one_line


@click.command("delete")
@MACHINE
@click.argument("snapshots", metavar="SNAPSHOT...", nargs=-1, required=True)
@connect_option
@DRY_RUN
@AUTO_APPROVE
def delete(machine: str, snapshots: tuple[str, ...], connect: str | None, dry_run: bool, auto_approve: bool) -> int:
    """Delete snapshots of a VM: what was written since goes into their files. The VM's state does not change."""
    from kvmstate.cli.approve import approve
    from kvmstate.snapshots import merge

    with host_at(connect) as host:
        # the others may depend on it
        for line in merge.check(host, machine, snapshots[0]):
            click.echo(f"  {one_line(line)}")
        if dry_run:
            click.echo(f"would delete {', '.join(snapshots)} of {machine}")
            return 0
        if not auto_approve:
            approve(
                f"Do you want to delete {', '.join(snapshots)} of {machine}? There is no way back to what they hold."
            )
        for name in snapshots:
            merge.delete(host, machine, name, say, Progress())
            click.echo(f"deleted snapshot {name} of {machine}")
    return 0


@click.command("merge")
@MACHINES
@connect_option
@click.option("--keep", default=0, show_default=True, type=click.IntRange(0), metavar="N", help="Newest ones to keep.")
@DRY_RUN
@AUTO_APPROVE
def merge(machines: tuple[str, ...], connect: str | None, keep: int, dry_run: bool, auto_approve: bool) -> int:
    """Shorten chains: delete the oldest external snapshots that a VM's state builds on."""
    from kvmstate.cli.approve import approve
    from kvmstate.snapshots import merge
    from kvmstate.snapshots.chain import look

    with host_at(connect) as host:
        todo = {name: merge.surplus(look(host, name), keep) for name in machines}
        for machine, names in todo.items():
            click.echo(f"  {machine}: {', '.join(names) or 'nothing to merge'}")
        if dry_run or not any(todo.values()):
            return 0
        if not auto_approve:
            approve("Do you want to delete these snapshots? There is no way back to what they hold.")

        def act(machine: str) -> None:
            merge.merge(host, machine, keep, say, Progress())
            click.echo(f"merged {machine}")

        return each(machines, act)


@click.command("flatten")
@MACHINES
@connect_option
@DRY_RUN
def flatten(machines: tuple[str, ...], connect: str | None, dry_run: bool) -> int:
    """Have the disks of VMs stand alone: copy into their images what they have from images below."""
    from kvmstate.snapshots import merge

    with host_at(connect) as host:

        def act(machine: str) -> None:
            if dry_run:
                found = [disk.target for disk in merge.layered(host, machine)]
                click.echo(f"would flatten {machine}: {', '.join(found) or 'no disk has layers'}")
                return
            done = merge.flatten(host, machine, say, Progress())
            click.echo(f"flattened {machine}: {', '.join(done) or 'no disk had layers'}")

        return each(machines, act)
