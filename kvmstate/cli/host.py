"""`kvmstate host`: what a host does as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import connect_option
from kvmstate.cli.session import seconds
from kvmstate.errors import KvmstateError
from kvmstate.views.formats import TEXT, Format

if TYPE_CHECKING:
    from kvmstate.guests.order import Told


@click.group("host")
def command() -> None:
    """Look after a host: its machines, ports and interfaces.

    `kvmstate service guests` has systemd start and stop machines with their host. What a machine does is said by
    hostBoot and onHostShutdown in its manifest, and stands in its domain: these commands need no manifests."""


@command.command("boot")
@connect_option
@format_option
def boot(connect: str | None, fmt: Format) -> int:
    """Start the machines that have hostBoot, in their order.

    One that does not come up holds up nobody: those after it are started when its time is over. Exit 0: all run; 1:
    some do not."""
    from kvmstate.cli.options import inputs
    from kvmstate.guests import power
    from kvmstate.host import open_host

    with open_host(connect or inputs(()).project().connection) as host:
        return _told(fmt, power.boot(host))


@command.command("shutdown")
@connect_option
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=lambda context, option, text: None if text is None else seconds(context, option, text),
    help="How long a guest may take to shut down. Default: its manifest's lifecycle.stop.timeout, else 60s.",
)
@format_option
def shutdown(connect: str | None, timeout: int | None, fmt: Format) -> int:
    """Stop the machines that have onHostShutdown, in reverse order.

    Others go on running. Exit 0: all have stopped; 1: some have not."""
    from kvmstate.cli.options import inputs
    from kvmstate.guests import power
    from kvmstate.host import open_host

    with open_host(connect or inputs(()).project().connection) as host:
        return _told(fmt, power.shutdown(host, timeout))


@command.command("interfaces")
@connect_option
@format_option
def interfaces(connect: str | None, fmt: Format) -> int:
    """List the host's network interfaces, and who uses them.

    Links, bridges, VLANs and bonds with their addresses: those of its kernel where kvmstate runs on the host, else
    those that libvirt's interface and node device drivers tell of. Nothing is changed."""
    from kvmstate.cli.formats import show
    from kvmstate.cli.options import inputs
    from kvmstate.host import open_host
    from kvmstate.host.interfaces import interfaces
    from kvmstate.views.interfaces import output

    with open_host(connect or inputs(()).project().connection) as host:
        found = interfaces(host)
    show(fmt, output(found))
    return 0


@command.command("forwards")
@click.option("--come", metavar="KIND/NAME", default="", help="Of a network or machine that has just started.")
@click.option("--gone", metavar="KIND/NAME", default="", help="Of one that has just stopped.")
@format_option
def forwards(come: str, gone: str, fmt: Format) -> int:
    """Open the ports of this host that lead to machines.

    Which ones, say `portForwards` of the networks; they stand in libvirt's files here. Rules are written again each
    time: what is not wanted any more is closed. Hooks of libvirt run this when a network or a machine starts or stops,
    see `kvmstate service forwards`. Needs root."""
    from kvmstate.host.forwards import open_ports, wanted

    found = wanted(come=come, gone=gone)
    open_ports(found)
    with telling(fmt) as tell:
        for each in found:
            to = f"{each.machine}:{each.port} on network {each.network}"
            tell(f"{each.protocol} {each.host} -> {to}: {each.why_not or f'open, to {each.address}'}", **asdict(each))
    return 0


def _told(fmt: Format, found: Iterable[tuple[str, Told]]) -> int:
    from kvmstate.cli import complain

    failed = 0
    with telling(fmt) as tell:
        for name, said in found:
            if not isinstance(said, KvmstateError):
                tell(f"{name}: {said}", machine=name)
                continue
            failed += 1
            if fmt == TEXT:
                complain(type(said)(f"{name}: {said.message}", said.hint))
            else:
                tell(f"{name}: {said.message}", machine=name, error=said.message, hint=said.hint)
    return 1 if failed else 0
