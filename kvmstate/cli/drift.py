"""`kvmstate drift`: has somebody changed the host by hand?"""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.session import host_options, opened
from kvmstate.views.formats import Format, Output


@click.command("drift")
@host_options
@format_option
def command(fmt: Format, **given: Any) -> int:
    """Compare the host with what was applied last.

    The manifests do not count: only changes that were made outside of kvmstate are shown.
    Exit 0: no drift; 2: drift; 1: error.
    """
    given["allow_empty"] = True  # manifests do not count
    with opened(claimed=False, **given) as at:
        plan = at.session.drift()
    from kvmstate.views.plan import render_drift
    from kvmstate.views.plan_json import drift_object

    show(fmt, Output(lambda: drift_object(plan), lambda: render_drift(plan)))
    return 0 if plan.is_empty else 2
