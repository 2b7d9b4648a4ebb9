"""The interfaces of a host that whoever changes it came in by, and whether they still lead back.

Who is logged in by ssh is told by ssh itself: https://man.openbsd.org/ssh#SSH_CONNECTION
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host.kernel_links import Link, read
from kvmstate.host.on_host import Run

# of which the other end did not answer
_SILENT = {"FAILED", "INCOMPLETE"}
# A new port of a bridge with a spanning tree forwards after twice its delay, which is 15 s where nobody says another
_ANSWERS = 35


class Session(NamedTuple):
    """The addresses of both ends of a login; empty where nobody is logged in."""

    client: str = ""
    server: str = ""


def session(run: Run) -> Session:
    client, _, server, *_ = [*run("sh", "-c", "echo $SSH_CONNECTION").split(), "", "", ""]
    return Session(client, server)


def links(run: Run) -> list[Link]:
    """Those of the host's kernel. Raises HostError."""
    try:
        return read(run("ip", "-json", "-details", "address").encode())
    except ValueError:
        raise HostError("`ip` on the host tells its links in no JSON", "install iproute2 there") from None


def carrying(found: Iterable[Link], by: Session) -> set[str]:
    """The interfaces that the login came in by: what has its address, and all that is below."""
    found = list(found)
    names = {each.name for each in found if by.server in {ip.partition("/")[0] for ip in each.addresses}}
    while more := {each.name for each in found if each.master in names} - names | _below(found, names) - names:
        names |= more
    return names


def _below(found: Iterable[Link], names: Collection[str]) -> set[str]:
    return {each.over for each in found if each.name in names and each.over}


def check(run: Run, by: Session) -> None:
    """Check that the host's routes lead back to whoever is logged in, and the next hop there answers. Raises
    ConnectionFailed."""
    if not by.client:
        return
    try:
        [route] = json.loads(run("ip", "-json", "route", "get", by.client, "from", by.server))
    except (HostError, ValueError):
        raise ConnectionFailed(f"the host has no way back from {by.server} to {by.client}") from None
    hop, device = route.get("gateway", by.client), route.get("dev", "")
    end = time.monotonic() + _ANSWERS
    while _is_silent(run, hop, device):
        if time.monotonic() > end:
            raise ConnectionFailed(f"{hop}, the way back to {by.client}, does not answer on {device}")


def _is_silent(run: Run, hop: str, device: str) -> bool:
    # whatever is sent there has the kernel ask for its hardware's address; nobody need listen
    run("bash", "-c", 'echo >"/dev/udp/$0/9"; sleep 1', hop)
    told = json.loads(run("ip", "-json", "neighbour", "show", hop, "dev", device) or "[]")
    return any(_SILENT & {*each.get("state", ())} for each in told)
