"""`kvmstate status`: what the project owns on a host, and how it is."""

from __future__ import annotations

import json
from typing import Any

import click

from kvmstate.cli.session import host_options, opened


@click.command("status")
@host_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(as_json: bool, **given: Any) -> int:
    """List every resource of the project: its state, and whether it is as its manifest says."""
    with opened(**given) as at:
        plan = at.session.plan(at.options)
    from kvmstate.views import status

    rows = status.rows(plan)
    click.echo(json.dumps(status.as_json(plan, rows), indent=2) if as_json else status.render(rows))
    return 0
