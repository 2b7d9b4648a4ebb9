"""`kvmstate snapshot create`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import connect_option
from kvmstate.cli.snapshot.options import DRY_RUN, MACHINES, each, holding, host_at, lock_option
from kvmstate.views.formats import Format


@click.command("create")
@MACHINES
@connect_option
@click.option("--name", metavar="NAME", help="Default: the time, such as 2026-01-31T12-00-00Z.")
@click.option("--description", default="", metavar="TEXT")
@click.option("--disk", "disks", multiple=True, metavar="TARGET", help="Only this disk, such as vda. Repeatable.")
@click.option("--memory", is_flag=True, help="Keep the running guest's memory too.")
@click.option(
    "--quiesce",
    type=click.Choice(["no", "preferred", "required"]),
    default="no",
    show_default=True,
    help="Have the guest agent write out and freeze its file systems.",
)
@click.option("--mode", type=click.Choice(["external", "internal"]), default="external", show_default=True)
@lock_option
@DRY_RUN
@format_option
def create(
    machines: tuple[str, ...],
    connect: str | None,
    name: str | None,
    disks: tuple[str, ...],
    lock_timeout: int,
    dry_run: bool,
    fmt: Format,
    **given: Any,
) -> int:
    """Take a snapshot of each VM.

    Running guests go on; an internal snapshot pauses them while it is taken.
    """
    from kvmstate.snapshots import chain
    from kvmstate.snapshots.create import Wish, check, create

    wish = Wish(name or f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}", disks=disks or None, **given)
    with telling(fmt) as tell, host_at(connect) as host, holding(host, machines, lock_timeout, dry_run) as say:

        def act(machine: str) -> None:
            if dry_run:
                check(host, chain.look(host, machine), wish)
                tell(f"would take {wish.mode} snapshot {wish.name} of {machine}", machine=machine, snapshot=wish.name)
                return
            create(host, machine, wish, say)
            tell(f"took snapshot {wish.name} of {machine}", machine=machine, snapshot=wish.name)

        return each(machines, act)
