"""`kvmstate snapshot list`, `tree` and `show`: nothing is changed."""

from __future__ import annotations

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import ANY_MACHINES, MACHINE, MACHINES, host_at
from kvmstate.views.formats import Format, Output


@click.command("list")
@ANY_MACHINES
@connect_option
@format_option
def list_(machines: tuple[str, ...], connect: str | None, fmt: Format) -> int:
    """List the snapshots of these VMs, or of all."""
    from kvmstate.host.snapshots import with_snapshots
    from kvmstate.snapshots.chain import look
    from kvmstate.views import snapshots as view

    with host_at(connect) as host:
        names = machines or sorted(domain.name for domain in with_snapshots(host.connection))
        found = [look(host, name) for name in names]
    show(fmt, Output(lambda: view.as_json(found), lambda: view.table(found)))
    return 0


@click.command("tree")
@MACHINES
@connect_option
@format_option
def tree(machines: tuple[str, ...], connect: str | None, fmt: Format) -> int:
    """Draw snapshots, and the files below each disk.

    Files have their sizes, what they are based on, and whether they are in use.
    """
    from kvmstate.snapshots.chain import Images, look
    from kvmstate.views import snapshots as view

    with host_at(connect) as host:
        images, found = Images(host), [look(host, name) for name in machines]
        said = [view.tree(machine, images) for machine in found]
        data = view.as_json(found, images)
    show(fmt, Output(lambda: data, lambda: "\n\n".join(said)))
    return 0


@click.command("show")
@MACHINE
@click.argument("snapshot")
@connect_option
@format_option
def show_(machine: str, snapshot: str, connect: str | None, fmt: Format) -> int:
    """Show one snapshot: its files, and the configuration since.

    Of the VM's configuration, what was added and removed since is shown.
    """
    from kvmstate.snapshots.chain import look
    from kvmstate.snapshots.revert import differences
    from kvmstate.views import snapshots as view

    with host_at(connect) as host:
        at = look(host, machine)
        found = at.snapshot(snapshot)
        said = view.snapshot_as_json(found) | {"configuration_since": differences(at, found)}
    show(fmt, Output(lambda: {"format_version": view.FORMAT_VERSION} | said, lambda: view.fields(said)))
    return 0
