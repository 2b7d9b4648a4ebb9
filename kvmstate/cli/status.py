"""`kvmstate status`: what the project owns on a host, and how it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.daemon import client, daemon_options
from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import inputs, split_addresses
from kvmstate.cli.session import host_options, opened
from kvmstate.errors import HostError, PlanError, UsageError
from kvmstate.views.formats import Format, Output

if TYPE_CHECKING:
    from kvmstate.cli.session import Opened
    from kvmstate.model.plan import Plan
    from kvmstate.model.resource import ResourceId


@click.command("status")
@host_options
@format_option
@click.option("--watch", "-w", is_flag=True, help="Refresh whenever something changes, until Ctrl-C.")
@daemon_options
def command(fmt: Format, watch: bool, daemon: str | None, token_file: Path | None, **given: Any) -> int:
    """List all resources, their state, and the addresses of guests.

    Addresses are those that the host knows: by DHCP leases, the guest agent and the ARP table.

    In place of a PATH may stand KIND/NAME, or a pattern of it, in the project of this folder: these alone are listed,
    with the machines, layers and snapshots that use them. Of a network also its leases, and the interfaces of running
    machines on it with their addresses.

        kvmstate status volume/images/base.qcow2

        kvmstate status network/lan

    With --watch the list is refreshed whenever something changes. A running daemon is asked; without one, the host and
    the files are watched.
    """

    named, given["paths"] = split_addresses(given["paths"])
    if watch and named:
        raise UsageError("--watch is of all resources", f"leave out {named[0]}")

    def look() -> Output:
        with opened(**{**given, "allow_empty": True, "claimed": False}) as at:
            plan = _with_whose(at, at.state())
            users = _users(at, plan, named) if named else None
            if users is not None:
                plan = replace(plan, changes=tuple(change for change in plan.changes if change.id in users))
            addresses = at.session.addresses(plan)
            clients = at.session.clients(plan) if named else {}
        from kvmstate.views import status
        from kvmstate.views.rows import notes

        return status.output(plan, status.rows(plan, addresses, users, clients), notes(plan))

    if not watch:
        if daemon or token_file:
            raise UsageError(
                "a daemon is asked by --watch alone", "add --watch, or leave out --daemon and --token-file"
            )
        show(fmt, look())
        return 0
    from kvmstate.cli.watch import screen, watch_daemon, watch_host
    from kvmstate.web.client import NotRunning

    asked = inputs(**given)
    with screen(fmt) as draw:
        try:
            watch_daemon(client(daemon, token_file, asked.project().name), draw)
        except NotRunning:
            if daemon:
                raise
        watch_host(asked, look, draw)
    return 0


def _users(at: Opened, plan: Plan, asked: Sequence[str]) -> dict[ResourceId, tuple[str, ...]]:
    """Who uses each of these. Raises PlanError for an address of nothing."""
    from kvmstate.plan.select import named
    from kvmstate.plan.uses import users

    known = {change.id: change for change in plan.changes}
    told: dict[ResourceId, tuple[str, ...]] = {}
    for id_ in sorted(named(known, asked, "status")):
        try:
            told[id_] = tuple(map(str, sorted(users(at.session.host, known[id_]))))
        except HostError as error:
            told[id_] = (f"who cannot be told: {error.message}",)
    return told


def _with_whose(at: Opened, plan: Plan) -> Plan:
    """With a note where what is shown is another one's: only what writes is refused."""
    try:
        if at.project:
            at.project.claim().settled(plan.project, at.session.store.recorded)
    except PlanError as error:
        return replace(plan, notes=(*plan.notes, error.message))
    return plan
