"""`kvmstate snapshot revert`."""

from __future__ import annotations

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import AUTO_APPROVE, DRY_RUN, MACHINE, holding, host_at, lock_option
from kvmstate.model.printable import one_line
from kvmstate.views.formats import Format


@click.command("revert")
@MACHINE
@click.argument("snapshot")
@connect_option
@click.option("--configuration", is_flag=True, help="Its configuration too: define the VM as it was defined then.")
@click.option(
    "--delete-children", is_flag=True, help="Then delete the snapshots that build on it. Those of others stay."
)
@lock_option
@DRY_RUN
@AUTO_APPROVE
@format_option
def revert(
    machine: str,
    snapshot: str,
    connect: str | None,
    configuration: bool,
    delete_children: bool,
    lock_timeout: int,
    dry_run: bool,
    auto_approve: bool,
    fmt: Format,
) -> int:
    """Bring a VM's disks and memory back to a snapshot.

    Memory is brought back where the snapshot has it.

    What was written since the latest snapshot is lost; all snapshots stay, unless asked otherwise. A running VM is
    stopped, and started again; one that was left off by a revert that was cut off is started, too.
    """
    from kvmstate.cli.approve import approve
    from kvmstate.snapshots import merge
    from kvmstate.snapshots.children import doomed
    from kvmstate.snapshots.revert import loss, revert

    with telling(fmt) as tell, host_at(connect) as host, holding(host, [machine], lock_timeout, dry_run) as say:
        found = loss(host, machine, snapshot, configuration)
        for path in found.dropped:
            tell(f"  - what was written to {one_line(path)} since the latest snapshot is lost")
        fate = "it stays as it is now" if found.stays else "it will be as it was then"
        for line in found.since:
            tell(f"  {one_line(line)}  (configuration changed since the snapshot; {fate})")
        children = doomed(host, machine, snapshot) if delete_children else []
        for child in children:
            tell(f"  - snapshot {one_line(child.name)} and what it alone holds are deleted")
        if dry_run:
            tell(f"would revert {machine} to {snapshot}")
            return 0
        if not auto_approve:
            approve(f"Do you want to revert {machine} to {snapshot}?", fmt)
        revert(host, machine, snapshot, say, configuration, approved=found.dropped)
        tell(f"reverted {machine} to {snapshot}")
        for child in children:
            merge.delete(host, machine, child.name, say)
            tell(f"deleted snapshot {child.name} of {machine}")
    return 0
