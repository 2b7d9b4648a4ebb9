"""`kvmstate drift`: has somebody changed the host by hand?"""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import (
    allow_path_option,
    confined_option,
    connect_option,
    env_option,
    inputs,
    paths_argument,
    project_option,
)
from kvmstate.views.formats import Format, Output


@click.command("drift")
@paths_argument
@env_option
@allow_path_option
@confined_option
@project_option
@connect_option
@format_option
# what plan is called with does here as well
@click.option("--values", "--set", "--secret", "--secrets", "unread", multiple=True, hidden=True, expose_value=False)
def command(fmt: Format, **given: Any) -> int:
    """Compare the host with what was applied last.

    No manifests are read: only changes that were made outside of kvmstate are shown. PATH says which project is meant.
    Exit 0: no drift; 2: drift; 1: error.
    """
    asked = inputs(**given)
    project = asked.project()
    from kvmstate.app import open_session

    with open_session(asked.uri(project), project.name, ()) as session:
        plan = session.drift()
    from kvmstate.views.plan import render_drift
    from kvmstate.views.plan_json import drift_object

    show(fmt, Output(lambda: drift_object(plan), lambda: render_drift(plan)))
    return 0 if plan.is_empty else 2
