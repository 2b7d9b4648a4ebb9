"""`kvmstate service forwards`: ports that lead to machines are opened again with each start."""

from __future__ import annotations

from pathlib import Path

import click

from kvmstate.cli.units import force_option, program, remove, root_option, write


@click.group("forwards")
def forwards() -> None:
    """Keep ports open that lead to machines.

    Hooks of libvirt run `kvmstate host forwards` when a network or a machine starts or stops. It reads no manifests,
    and asks libvirt nothing."""


@forwards.command()
@root_option
@force_option
def install(root: Path, force: bool) -> None:
    """Write the hooks.

    libvirt looks for hooks when its daemon starts: restart libvirtd, or virtnetworkd and virtqemud. Machines go on
    running then."""
    from kvmstate.service.hooks import hooks

    if write(hooks(program(), root.absolute()), force) and root == Path("/"):
        click.echo("\nNext:\n  systemctl try-restart libvirtd virtnetworkd virtqemud\n  kvmstate host forwards")


@forwards.command()
@root_option
@force_option
def uninstall(root: Path, force: bool) -> None:
    """Remove the hooks.

    What is open stays open until the host boots."""
    from kvmstate.service.hooks import hooks

    remove(hooks(Path("kvmstate"), root.absolute()), force)
