"""`kvmstate adopt`: take ownership of what exists."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from kvmstate.cli.session import host_options, lock_option, opened


@click.command("adopt")
@host_options
@lock_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(auto_approve: bool, **given: Any) -> int:
    """Take ownership of objects on the host that the manifests declare and this project does not own.

    Nothing on the host changes but the record of who owns what, and the project's stamp in the <metadata> of machines
    and networks, while they run or not: the next plan shows how they differ. What another project owns stays with it.
    """
    with opened(repair=True, **given) as at:
        from kvmstate.cli.approve import carry_out

        plan = at.session.plan(at.options)
        found = [change for change in plan.changes if change.action.name == "ADOPT"]
        adopted = tuple(c if c.owner else dataclasses.replace(c, blocked="", hint="") for c in found)
        plan = dataclasses.replace(plan, changes=adopted)
        return carry_out(at, plan, auto_approve, 1, f"Do you want project {plan.project} to own these?")
