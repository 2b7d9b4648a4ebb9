"""`kvmstate drift`: has somebody changed the host by hand?"""

from __future__ import annotations

import json
from typing import Any

import click

from kvmstate.cli import colour
from kvmstate.cli.session import host_options, json_option, opened


@click.command("drift")
@host_options
@json_option
def command(as_json: bool, **given: Any) -> int:
    """Compare the host with what was applied last, whatever the manifests say by now.

    Exit 0: no drift; 2: drift; 1: error.
    """
    given["allow_empty"] = True  # manifests do not count
    with opened(claimed=False, **given) as at:
        plan = at.session.drift()
    if as_json:
        from kvmstate.views.plan_json import drift_object

        click.echo(json.dumps(drift_object(plan), indent=2))
    else:
        from kvmstate.views.plan import render_drift

        click.echo(render_drift(plan), color=colour())
    return 0 if plan.is_empty else 2
