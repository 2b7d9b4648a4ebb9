"""`kvmstate vm start`: on and off, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.vm.options import Done, act, machines_options, opened
from kvmstate.errors import HostError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.apply.standing import Standing
    from kvmstate.host.overview import Seen


@click.command("start")
@machines_options
@click.option("--paused", is_flag=True, help="Its CPUs stand still until `kvmstate vm unpause`.")
@format_option
def start(fmt: Format, paused: bool, **given: Any) -> int:
    """Start machines; one with saved memory goes on from there."""
    with opened(**given) as at:
        from kvmstate.host import domains

        def do(seen: Seen, _: Standing) -> Done:
            name = seen.domain.name
            if seen.active:
                if seen.state == "paused" and not paused:
                    raise HostError("it is paused", f"kvmstate vm unpause {name}")
                return Done(f"is {seen.state} already", seen.state, {"changed": False})
            domains.start(seen.domain, paused)
            how = "goes on from its saved memory" if seen.state == "saved" else "started"
            return Done(f"{how}, paused" if paused else how, "paused" if paused else "running", {"changed": True})

        return act(fmt, at, do)
