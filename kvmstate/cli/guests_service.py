"""`kvmstate service guests`: machines that start and stop with their host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmstate.cli.options import connect_option
from kvmstate.cli.units import call, force_option, program, remove, root_option, write
from kvmstate.errors import UsageError

if TYPE_CHECKING:
    from kvmstate.service.units import Guests


@click.group("guests")
def guests() -> None:
    """Start and stop machines with their host, in their order.

    kvmstate-guests.service runs `kvmstate host boot` when the host has booted, and `kvmstate host shutdown` when it
    shuts down, after the daemons of all projects have ended. It reads no manifests."""


@guests.command()
@connect_option
@click.option(
    "--user", metavar="USER", default="", help="Default: root, whom libvirt lets in also when the host shuts down."
)
@root_option
@click.option("--enable", is_flag=True, help="Have it start and stop machines from now on.")
@force_option
def install(connect: str | None, user: str, root: Path, enable: bool, force: bool) -> None:
    """Write the unit."""
    from kvmstate.service.units import Guests

    unit = Guests(program(), connect or "qemu:///system", user, root.absolute())
    here = root == Path("/")
    if write([unit.file], force) and here:
        call("systemctl", "daemon-reload")
    if enable:
        _enable(unit, here)
    elif here:
        click.echo(f"\nNext:\n  systemctl enable --now {unit.unit}")


def _enable(unit: Guests, here: bool) -> None:
    if not here:
        call("systemctl", f"--root={unit.root}", "enable", unit.unit)
        return
    call("systemctl", "enable", unit.unit)
    # a restart would stop the machines
    call("systemctl", "--no-block", "start", unit.unit)
    click.echo(f"started {unit.unit}: `systemctl status {unit.unit}` says how it is")


@guests.command()
@root_option
@force_option
def uninstall(root: Path, force: bool) -> None:
    """Remove the unit.

    Machines that run go on running."""
    from kvmstate.service.units import Guests

    unit = Guests(Path("kvmstate"), root=root.absolute())
    if not unit.file.path.exists():
        raise UsageError(f"there is no such service: no {unit.file.path}")
    if root != Path("/"):
        call("systemctl", f"--root={root}", "disable", unit.unit)
        remove([unit.file], force)
        return
    call("systemctl", "disable", unit.unit)
    # what ExecStop= does is for a host that shuts down
    kept = call("systemctl", "show", "--property=ActiveState", "--value", unit.unit).strip() == "active"
    remove([unit.file], force)
    call("systemctl", "daemon-reload")
    if kept:
        click.echo("machines that run go on running")
