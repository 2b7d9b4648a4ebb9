"""`kvmstate drift`: has somebody changed the host by hand?"""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.session import host_options, opened


@click.command("drift")
@host_options
def command(**given: Any) -> int:
    """Compare the host with what was applied last, whatever the manifests say by now.

    Exit 0: no drift; 2: drift; 1: error.
    """
    with opened(**given) as at:
        plan = at.session.drift()
    from kvmstate.views.plan import render_drift

    click.echo(render_drift(plan))
    return 0 if plan.is_empty else 2
