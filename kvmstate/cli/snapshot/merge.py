"""`kvmstate snapshot delete`, `merge` and `flatten`: shorter chains, the same contents."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import (
    AUTO_APPROVE,
    DRY_RUN,
    MACHINES,
    Progress,
    each,
    holding,
    host_at,
    lock_option,
    plain,
)
from kvmstate.errors import UsageError
from kvmstate.model.printable import one_line
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.host import Host


@click.command("delete")
@click.argument("names", metavar="VM SNAPSHOT...", nargs=-1)
@connect_option
@click.option("--policy", metavar="NAME", help="All that this policy of the project took: [VM]... says of which.")
@lock_option
@DRY_RUN
@AUTO_APPROVE
@format_option
def delete(
    names: tuple[str, ...],
    connect: str | None,
    policy: str | None,
    lock_timeout: int,
    dry_run: bool,
    auto_approve: bool,
    fmt: Format,
) -> int:
    """Delete snapshots of a VM; its state does not change.

    What was written since a snapshot is merged into its files.

    With --policy NAME those that a policy of this folder's project took, of these VMs or of all, such as those of a
    policy that was removed from the manifests.
    """
    from kvmstate.cli.approve import approve
    from kvmstate.snapshots import merge

    if policy is None and len(names) < 2:
        raise UsageError("say which virtual machine, and which of its snapshots", "or --policy NAME")
    names = (*map(plain, names[:1]), *names[1:]) if policy is None else tuple(map(plain, names))
    with telling(fmt) as tell, host_at(connect) as host, ExitStack() as stack:
        concerned = names[:1] if policy is None else tuple(_of_policy(host, policy, names))
        say = stack.enter_context(holding(host, concerned, lock_timeout, dry_run))
        # again: only what holds under the lock is asked about
        if policy is None:
            going = {names[0]: list(names[1:])}
        else:
            going = _of_policy(host, policy, concerned) if concerned else {}
        for machine, snapshots in going.items():
            for line in merge.foreseen(host, machine, snapshots) if policy is None else ():
                tell(f"  {one_line(line)}", machine=machine)
            if dry_run:
                tell(f"would delete {', '.join(snapshots)} of {machine}", machine=machine, snapshots=snapshots)
        if not going:
            tell(f"no snapshot of policy {policy} is left")
        if dry_run or not going:
            return 0
        if not auto_approve:
            what = "; ".join(f"{', '.join(snapshots)} of {machine}" for machine, snapshots in going.items())
            approve(f"Do you want to delete {what}? There is no way back to what they hold.", fmt)

        def act(machine: str) -> None:
            def one(name: str) -> None:
                merge.delete(host, machine, name, say, Progress())
                tell(f"deleted snapshot {name} of {machine}", machine=machine, snapshot=name)

            if held := merge.delete_each(one, going[machine]):
                raise next(iter(held.values()))

        return each(tuple(going), act)


def _of_policy(host: Host, policy: str, machines: tuple[str, ...]) -> dict[str, list[str]]:
    """By machine: all that it took, the oldest first. Raises UsageError for a machine that has none."""
    from kvmstate.cli.options import inputs
    from kvmstate.snapshots.of_policies import of_policies

    project = inputs(()).project().name
    found = of_policies(host, project).get(policy, {})
    if missing := [machine for machine in machines if machine not in found]:
        raise UsageError(
            f"policy {policy} of project {project} has no snapshot of {', '.join(missing)}",
            f"it has some of {', '.join(sorted(found))}" if found else "`kvmstate snapshot list` shows what there is",
        )
    return {machine: snapshots for machine, snapshots in sorted(found.items()) if not machines or machine in machines}


@click.command("merge")
@MACHINES
@connect_option
@click.option("--keep", default=0, show_default=True, type=click.IntRange(0), metavar="N", help="Newest ones to keep.")
@lock_option
@DRY_RUN
@AUTO_APPROVE
@format_option
def merge(
    machines: tuple[str, ...],
    connect: str | None,
    keep: int,
    lock_timeout: int,
    dry_run: bool,
    auto_approve: bool,
    fmt: Format,
) -> int:
    """Delete the oldest external snapshots, to shorten chains."""
    from kvmstate.cli.approve import approve
    from kvmstate.snapshots import merge
    from kvmstate.snapshots.chain import look

    with telling(fmt) as tell, host_at(connect) as host, holding(host, machines, lock_timeout, dry_run) as say:
        todo = {name: merge.surplus(look(host, name), keep) for name in machines}
        for machine, names in todo.items():
            tell(f"  {machine}: {', '.join(names) or 'nothing to merge'}", machine=machine, snapshots=names)
        if dry_run or not any(todo.values()):
            return 0
        if not auto_approve:
            approve("Do you want to delete these snapshots? There is no way back to what they hold.", fmt)

        def act(machine: str) -> None:
            merge.merge(host, machine, keep, say, Progress())
            tell(f"merged {machine}", machine=machine)

        return each(machines, act)


@click.command("flatten")
@MACHINES
@connect_option
@lock_option
@DRY_RUN
@format_option
def flatten(machines: tuple[str, ...], connect: str | None, lock_timeout: int, dry_run: bool, fmt: Format) -> int:
    """Make the disks of VMs independent of backing images.

    What a disk has from the images below is copied into its own.
    """
    from kvmstate.snapshots import merge

    with telling(fmt) as tell, host_at(connect) as host, holding(host, machines, lock_timeout, dry_run) as say:

        def act(machine: str) -> None:
            if dry_run:
                found = [disk.target for disk in merge.layered(host, machine)]
                tell(
                    f"would flatten {machine}: {', '.join(found) or 'no disk has layers'}", machine=machine, disks=found
                )
                return
            done = merge.flatten(host, machine, say, Progress())
            tell(f"flattened {machine}: {', '.join(done) or 'no disk had layers'}", machine=machine, disks=done)

        return each(machines, act)
