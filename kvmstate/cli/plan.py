"""`kvmstate plan`: what apply would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from kvmstate.cli import colour, plan_file
from kvmstate.cli.session import claim_options, deletion_options, host_options, json_option, opened, selection_options
from kvmstate.errors import UsageError
from kvmstate.model.printable import harmless


@click.command("plan")
@host_options
@deletion_options
@claim_options
@selection_options
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: nothing to do; 2: changes; 1: error.")
@json_option
@click.option("--markdown", "as_markdown", is_flag=True, help="Markdown on stdout, for a merge request's comment.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Save the plan, for `kvmstate apply FILE`."
)
def command(detailed_exitcode: bool, as_json: bool, as_markdown: bool, out: Path | None, **given: Any) -> int:
    """Show what apply would change on the host, and what it costs. Changes nothing."""
    if as_json and as_markdown:
        raise UsageError("--json and --markdown are two outputs", "choose one of them")
    if out:
        plan_file.check_out(out)
    with opened(**given) as at:
        plan = at.plan()
        drift = at.session.drift(plan) if as_json else None
        if out:
            plan_file.write(out, at.session.saved(plan, at.options))
    if drift is not None:
        from kvmstate.views.plan_json import plan_object

        click.echo(json.dumps(plan_object(plan, drift), indent=2))
    elif as_markdown:
        from kvmstate.views import markdown

        click.echo(markdown.render(plan))
    else:
        from kvmstate.views.plan import render

        click.echo(render(plan), color=colour())
    if out:
        click.echo(harmless(f"\nThe plan is saved. To apply exactly this: kvmstate apply {out}"), err=True)
    return 2 if detailed_exitcode and not plan.is_empty else 0
