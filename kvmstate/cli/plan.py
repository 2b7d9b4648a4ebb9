"""`kvmstate plan`: what apply would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kvmstate.cli import plan_file
from kvmstate.cli.formats import format_option, short_for, show
from kvmstate.cli.session import claim_options, deletion_options, host_options, opened, selection_options
from kvmstate.model.printable import harmless
from kvmstate.views.formats import Format


@click.command("plan")
@host_options
@deletion_options
@claim_options
@selection_options
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: nothing to do; 2: changes; 1: error.")
@format_option
@short_for("markdown", "Short for --format markdown.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Save the plan, for `kvmstate apply FILE`."
)
def command(detailed_exitcode: bool, fmt: Format, out: Path | None, **given: Any) -> int:
    """Show what apply would change on the host, and what it costs.

    Nothing is changed."""
    if out:
        plan_file.check_out(out)
    with opened(**given) as at:
        plan = at.plan()
        drift = at.session.drift(plan) if fmt.structured else None
        if out:
            plan_file.write(out, at.session.saved(plan, at.options))
    from kvmstate.views.plan import output

    show(fmt, output(plan, drift))
    if out:
        click.echo(harmless(f"\nThe plan is saved. To apply exactly this: kvmstate apply {out}"), err=True)
    return 2 if detailed_exitcode and not plan.is_empty else 0
