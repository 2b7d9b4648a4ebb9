"""`kvmstate discover`: what a host has that manifests could declare."""

from __future__ import annotations

import click

from kvmstate.cli import complain
from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import connect_option, inputs
from kvmstate.errors import HostError
from kvmstate.views.formats import Format, Output

FORMAT_VERSION = "1.0"


@click.command("discover")
@click.argument("what", metavar="pools", type=click.Choice(["pools"]))
@click.option("--type", "type_", metavar="TYPE", default="", help="Of this type alone, such as logical or netfs.")
@click.option("--server", metavar="HOST", default="", help="What this server has: its exports and targets.")
@connect_option
@format_option
def command(what: str, type_: str, server: str, connect: str | None, fmt: Format) -> int:
    """Find storage that could be pools, and print their manifests.

    What a host or a server offers: volume groups; with --server, NFS exports, iSCSI targets and Gluster volumes. What
    is a pool already is left out. Nothing is changed. Exit 1 when libvirt could not look for something.
    """
    uri = connect or inputs(()).project().connection
    from kvmstate.host import open_host
    from kvmstate.kinds import ON_HOST

    [kind] = [kind for kind in ON_HOST if kind.folder == what]
    assert kind.ops.offers
    with open_host(uri) as host:
        found = [*kind.ops.offers(host, type_, server)]
    from kvmstate.manifest.write import as_data, manifest

    made = [each for each in found if not isinstance(each, HostError)]
    errors = [each for each in found if isinstance(each, HostError)]
    data = {
        "format_version": FORMAT_VERSION,
        "manifests": list(map(as_data, made)),
        "errors": [{"error": each.message, "hint": each.hint} for each in errors],
    }
    show(fmt, Output(lambda: data, lambda: manifest(made).rstrip("\n") or f"# no {what} are offered"))
    if not fmt.structured:
        for error in errors:
            complain(error)
    return 1 if errors else 0
