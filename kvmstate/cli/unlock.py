"""`kvmstate unlock`: who holds a project's lock, and how to be rid of one that was left behind."""

from __future__ import annotations

import time
from typing import Any

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import confined_option, connect_option, env_option, inputs, paths_argument, project_option
from kvmstate.errors import Locked
from kvmstate.views.formats import Format


@click.command("unlock")
@paths_argument
@env_option
@confined_option
@project_option
@connect_option
@format_option
@click.option("--force", is_flag=True, help="Take the lock away even from a run that seems to be alive.")
def command(force: bool, fmt: Format, **given: Any) -> int:
    """Show who holds the project's lock; remove an abandoned lock.

    A run whose lock is taken away by force notices within seconds, before it changes anything more, and stops.
    """
    asked = inputs(**given)
    project = asked.project()
    from kvmstate.apply import open_lock
    from kvmstate.host import open_host

    with open_host(asked.uri(project)) as host, telling(fmt) as tell:
        lock = open_lock(host, project.name)
        found = lock.holder()
        if found is None:
            tell(f"project {project.name} is not locked on {host.uri}", holder=None)
            return 0
        token, holder = found
        said = f"project {project.name} is locked on {host.uri} by {holder}, {holder.times}"
        stale = holder.stale(time.time())
        if not stale and not force:
            raise Locked(said, "--force removes it, should nobody be at work there")
        lock.remove(token)
        tell(f"{said}\nremoved{f': {stale}' if stale else ''}", holder=str(holder))
        return 0
