"""`kvmstate snapshot list`, `tree` and `show`: nothing is changed."""

from __future__ import annotations

import json

import click

from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import ANY_MACHINES, JSON, MACHINE, MACHINES, host_at


@click.command("list")
@ANY_MACHINES
@connect_option
@JSON
def list_(machines: tuple[str, ...], connect: str | None, as_json: bool) -> int:
    """List the snapshots of these VMs, else of all that have some."""
    from kvmstate.host.snapshots import with_snapshots
    from kvmstate.snapshots.chain import look
    from kvmstate.views import snapshots as view

    with host_at(connect) as host:
        names = machines or sorted(domain.name for domain in with_snapshots(host.connection))
        found = [look(host, name) for name in names]
    click.echo(json.dumps(view.as_json(found), indent=2) if as_json else view.table(found))
    return 0


@click.command("tree")
@MACHINES
@connect_option
@JSON
def tree(machines: tuple[str, ...], connect: str | None, as_json: bool) -> int:
    """Draw snapshots and the chains of files below each disk: sizes, what lies on what, what is in use."""
    from kvmstate.snapshots.chain import Images, look
    from kvmstate.views import snapshots as view

    with host_at(connect) as host:
        images, found = Images(host), [look(host, name) for name in machines]
        said = [view.tree(machine, images) for machine in found]
    click.echo(json.dumps(view.as_json(found, images), indent=2) if as_json else "\n\n".join(said))
    return 0


@click.command("show")
@MACHINE
@click.argument("snapshot")
@connect_option
@JSON
def show(machine: str, snapshot: str, connect: str | None, as_json: bool) -> int:
    """Show one snapshot: its files, and what the VM's configuration has gained and lost since."""
    from kvmstate.snapshots.chain import look
    from kvmstate.snapshots.revert import differences
    from kvmstate.views import snapshots as view

    with host_at(connect) as host:
        at = look(host, machine)
        found = at.snapshot(snapshot)
        said = view.snapshot_as_json(found) | {"configuration_since": differences(at, found)}
    click.echo(json.dumps({"format_version": view.FORMAT_VERSION} | said, indent=2) if as_json else view.fields(said))
    return 0
