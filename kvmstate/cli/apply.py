"""`kvmstate apply`: make the host as the manifests say, or as a saved plan does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli import plan_file
from kvmstate.cli.formats import format_option
from kvmstate.cli.session import (
    claim_options,
    deletion_options,
    host_options,
    lock_option,
    opened,
    opened_saved,
    parallelism_option,
    quiet_option,
    selection_options,
)
from kvmstate.errors import PlanError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.app import Session
    from kvmstate.model.plan import Plan


@click.command("apply")
@host_options
@deletion_options
@claim_options
@lock_option
@selection_options
@parallelism_option
@quiet_option
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(
    auto_approve: bool, quiet: bool, parallelism: int, fmt: Format, paths: tuple[Path, ...], **given: Any
) -> int:
    """Make the host match the manifests: plan, ask, carry out.

    PATH may be a plan saved with `plan --out`: exactly that is carried out, without asking, or nothing at all when the
    host has changed since. The secrets of one that has some come from the manifests: of this folder, or of the other
    PATHs.

    A failure stops only what depends on it; the next apply goes on from there. Exit 0: all done; 1: something failed,
    was skipped or is blocked.
    """
    if found := plan_file.find(paths, **given):
        with opened_saved(found.plan, given["connect"], given["lock_timeout"]) as at:
            from kvmstate.cli.approve import carry_out

            return carry_out(at, _restored(at.session, found), True, parallelism, "", fmt, exact=True, quiet=quiet)
    with opened(paths=paths, **given) as at:
        from kvmstate.cli.approve import carry_out

        plan = at.session.plan(at.options)
        question = f"Do you want to make these changes on {plan.host}?"
        return carry_out(at, plan, auto_approve, parallelism, question, fmt, quiet=quiet)


def _restored(session: Session, found: plan_file.Found) -> Plan:
    """Raises PlanError that says what moved, when the plan is stale."""
    from kvmstate.plan.saved import Stale

    try:
        return session.restored(found.plan, found.manifests)
    except Stale as stale:
        from kvmstate.views.rows import moved

        raise PlanError("\n  ".join([stale.message, *moved(stale)]), stale.hint) from stale
