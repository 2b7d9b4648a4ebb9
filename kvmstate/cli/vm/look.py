"""`kvmstate vm list`: nothing is changed."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.vm.options import machines_options, opened
from kvmstate.views.formats import Format


@click.command("list")
@machines_options
@format_option
def list_(fmt: Format, **given: Any) -> int:
    """List machines: state, addresses, what is pending.

    All machines of the host, or those of these names. A note tells what waits for a restart, what the manifest will do
    next, and the last I/O error.
    """
    with opened(**given, every=True) as at:
        from kvmstate.host.addresses import reachable
        from kvmstate.host.overview import Seen, io_errors
        from kvmstate.views import machines

        known = {each.domain.name: at.standings.of(each.domain) for each in at.seen}

        def row(seen: Seen) -> machines.Row:
            standing = known[seen.domain.name]
            found: tuple[str, ...] = ()
            errors: tuple[str, ...] = ()
            if seen.active:
                found = tuple(reachable(seen.domain))
                errors = tuple(io_errors(seen.domain))
            return machines.Row(
                seen.domain.name,
                seen.state,
                standing.project,
                found,
                at.standings.pending(standing),
                errors,
                seen.why,
                standing.fate(seen.state),
            )

        rows = sorted(at.host.each(row, at.seen), key=lambda each: each.name)
        show(fmt, machines.output(at.host.uri, rows))
    return 0
