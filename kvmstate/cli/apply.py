"""`kvmstate apply`: make the host as the manifests say."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.session import (
    host_options,
    json_option,
    lock_option,
    opened,
    parallelism_option,
    selection_options,
)


@click.command("apply")
@host_options
@lock_option
@selection_options
@parallelism_option
@json_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(auto_approve: bool, parallelism: int, as_json: bool, **given: Any) -> int:
    """Plan, ask, and carry the plan out.

    A failure stops only what depends on it; the next apply goes on from there. Exit 0: all done; 1: something failed,
    was skipped or is blocked.
    """
    with opened(**given) as at:
        from kvmstate.cli.approve import carry_out

        plan = at.session.plan(at.options)
        question = f"Do you want to make these changes on {plan.host}?"
        return carry_out(at, plan, auto_approve, parallelism, question, as_json)
