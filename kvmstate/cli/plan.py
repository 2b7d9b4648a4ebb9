"""`kvmstate plan`: what apply would do."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.session import host_options, opened


@click.command("plan")
@host_options
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: nothing to do; 2: changes; 1: error.")
def command(detailed_exitcode: bool, **given: Any) -> int:
    """Show what apply would change on the host, and what it costs. Changes nothing."""
    with opened(**given) as at:
        plan = at.session.plan(at.options)
    from kvmstate.views.plan import render

    click.echo(render(plan))
    return 2 if detailed_exitcode and not plan.is_empty else 0
