"""`kvmstate vm wait`: for a state, an address, the agent, cloud-init or a port."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.session import seconds
from kvmstate.cli.vm.options import Done, act, machines_options, opened
from kvmstate.errors import HostError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.apply.standing import Standing
    from kvmstate.host.overview import Seen

_STATES = ("running", "paused", "stopped", "saved")
_SEEN = ("address", "agent", "cloud-init")
# Seconds between two looks
_PERIOD = 0.5


def _what(context: click.Context, option: click.Parameter, text: str) -> str:
    if text in (*_STATES, *_SEEN) or (re.fullmatch("port:[0-9]{1,5}", text) and 0 < int(text[5:]) < 65536):
        return text
    raise click.BadParameter(f"{text!r}: expected {', '.join((*_STATES, *_SEEN))} or port:NUMBER")


@click.command("wait")
@machines_options
@click.option(
    "--for",
    "what",
    metavar="WHAT",
    default="running",
    show_default=True,
    callback=_what,
    help="A state (running, paused, stopped, saved), or address, agent, cloud-init, port:NUMBER.",
)
@click.option("--timeout", metavar="DURATION", default="5m", show_default=True, callback=seconds, help="No longer.")
@format_option
def wait(fmt: Format, what: str, timeout: int, **given: Any) -> int:
    """Wait until machines are in a state, or answer.

    Of port:22 a connection is tried from here to the addresses that the host knows.
    """
    with opened(**given) as at:
        from kvmstate.host.overview import look
        from kvmstate.kind.health import HealthCheck, TcpSocket
        from kvmstate.kind.probe import FAILED, Probe

        asked = {"address": what == "address", "guest_agent": what == "agent", "cloud_init": what == "cloud-init"}
        tcp = TcpSocket(port=int(what[5:])) if what.startswith("port:") else None
        check = None if what in _STATES else HealthCheck(**asked, tcp_socket=tcp)

        def do(seen: Seen, _: Standing) -> Done:
            end = time.monotonic() + timeout
            while True:
                now = next(iter(look(at.host.connection, {seen.domain.name})), None)
                if now is None:
                    raise HostError("it has gone")
                lacks = f"it is {now.state}" if check is None and now.state != what else ""
                if check is not None:
                    lacks = Probe(check, now.domain).lacks() if now.state == "running" else f"it is {now.state}"
                if not lacks:
                    return Done(now.state if check is None else f"has {what}", now.state, {"reached": what})
                if time.monotonic() >= end or lacks == FAILED:
                    raise HostError(f"{lacks} (waited {timeout} s for {what})", "--timeout waits longer")
                time.sleep(_PERIOD)

        return act(fmt, at, do)
