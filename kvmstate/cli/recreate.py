"""`kvmstate recreate`: make again what is gone with the data that it held."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.options import split_addresses
from kvmstate.cli.session import host_options, lock_option, opened, parallelism_option, quiet_option
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format


@click.command("recreate")
@host_options
@lock_option
@parallelism_option
@quiet_option
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(
    auto_approve: bool, quiet: bool, fmt: Format, parallelism: int, paths: tuple[Path, ...], **given: Any
) -> int:
    """Create lost volumes again, empty or from their content.

    What they need is created first.

    PATH... are addresses, such as volume/images/data or 'volume/images/*', and the manifests. A plan never does this by
    itself: a folder that is not mounted looks like one whose files are gone.
    """
    addresses, paths = split_addresses(paths)
    if not addresses:
        raise UsageError("nothing is named to be made again", "name it: kvmstate recreate volume/POOL/NAME")
    if other := next((address for address in addresses if not address.lower().startswith("volume/")), None):
        raise UsageError(
            f"{other} is not a volume",
            "name volumes: kvmstate recreate volume/POOL/NAME; `kvmstate apply` makes all else again",
        )
    with opened(paths=paths, targets=addresses, **given) as at:
        from kvmstate.cli.approve import carry_out

        at = dataclasses.replace(at, options=dataclasses.replace(at.options, recreate=addresses))
        plan = at.session.plan(at.options)
        question = f"Do you want to make these again on {plan.host}? What they held is not brought back."
        return carry_out(at, plan, auto_approve, parallelism, question, fmt, quiet=quiet)
