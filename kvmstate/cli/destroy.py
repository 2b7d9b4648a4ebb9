"""`kvmstate destroy`: delete what the project owns on a host."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.session import (
    claim_options,
    host_options,
    lock_option,
    opened,
    parallelism_option,
    quiet_option,
    selection_options,
)
from kvmstate.views.formats import Format


@click.command("destroy")
@host_options
@claim_options
@lock_option
@selection_options
@parallelism_option
@quiet_option
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(auto_approve: bool, quiet: bool, fmt: Format, parallelism: int, **given: Any) -> int:
    """Delete everything that the project owns on the host.

    Resources are deleted in the reverse order of apply. Each resource's lifecycle holds: volumes stay unless theirs
    says deletion: delete, and preventDestroy protects.
    """
    given |= {"prune": True, "allow_empty": True, "max_deletes": sys.maxsize, "max_delete_share": 1}
    with opened(**given) as at:
        from kvmstate.cli.approve import carry_out

        # what the manifests say of their lifecycles counts now, applied or not
        lifecycles = {resource.id: resource.lifecycle for resource in at.session.resources}
        at = dataclasses.replace(
            at,
            session=dataclasses.replace(at.session, resources=()),
            options=dataclasses.replace(at.options, destroys=True, lifecycles=lifecycles),
        )
        plan = at.session.plan(at.options)
        question = f"Do you want to destroy these on {plan.host}?"
        return carry_out(at, plan, auto_approve, parallelism, question, fmt, verb="Destroy", quiet=quiet)
