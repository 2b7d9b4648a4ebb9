"""Whether a virtual machine does its work; see `kvmstate.kind.health`."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import agent, domains
from kvmstate.host.addresses import addresses, leases
from kvmstate.host.listening import Listener
from kvmstate.host.objects import Domain
from kvmstate.kind.health import HealthCheck, TcpSocket

# Seconds between two attempts, and the longest that one may take
PERIOD = 1.0
ATTEMPT = 5.0
# What it writes when it is done with this boot; nothing where it was told to do nothing
_RESULT = """cd /run/cloud-init && if [ -e disabled ]; then echo '"errors": []'; else cat result.json; fi"""
# It is over then
FAILED = "cloud-init has failed, as its log in the guest tells (/var/log/cloud-init.log)"


class Unhealthy(HostError):
    """A health check failed."""


@dataclass(frozen=True)
class Probe:
    """`check` on a domain."""

    check: HealthCheck
    domain: Domain
    at: str = "healthCheck in the snapshot policy"
    before: Mapping[str, int] = field(default_factory=dict)

    def lacks(self) -> str:
        """What is not as it should be right now, else nothing. Raises ConnectionFailed."""
        if self.check.address and not self._addresses():
            return "it has no address"
        if (self.check.guest_agent or self.check.cloud_init) and not _said(lambda: agent.answers(self.domain)):
            return "its guest agent does not answer"
        if self.check.cloud_init and (lacks := _said(lambda: _cloud_init(self.domain), "cloud-init does not answer")):
            return lacks
        if (tcp := self.check.tcp_socket) and not any(_connects(host, tcp.port) for host in self._hosts(tcp)):
            where = f"{tcp.host.replace('{domain}', self.domain.name)}:{tcp.port}" if tcp.host else f"port {tcp.port}"
            return f"{where} takes no connection"
        return ""

    def _hosts(self, tcp: TcpSocket) -> Iterator[str]:
        if tcp.host:
            yield tcp.host.replace("{domain}", self.domain.name)
        else:
            yield from self._addresses()

    def _addresses(self) -> list[str]:
        """Without those that it was leased before it was started, and has not asked for since."""
        now = leases(self.domain) if self.before else {}
        return [each for each in addresses(self.domain) if not now.get(each) or now[each] != self.before.get(each)]

    def started(self) -> Probe:
        """The probe of a machine that has been started right before."""
        return replace(self, before=leases(self.domain))

    def wait(self, console: Listener | None = None) -> None:
        """Until it is healthy. Raises Unhealthy, with what its console has said, and ConnectionFailed."""
        deadline = time.monotonic() + self.check.timeout
        while lacks := self.lacks():
            if console:
                console.listen()
            over = time.monotonic() >= deadline or lacks == FAILED
            if over or domains.state(self.domain) == "stopped":
                waited = "" if lacks == FAILED else f" (waited {self.check.timeout} s)"
                raise Unhealthy(
                    f"the health check failed: {lacks}{waited}{console.told() if console else ''}",
                    f"see the guest's console, and {self.at}",
                )
            time.sleep(PERIOD)


def _cloud_init(domain: Domain) -> str:
    """What cloud-init has not done yet, by the files that `cloud-init status` reads. That is a program which a slow
    guest takes longer to start than there is between two questions: it would do nothing else."""
    _, said = agent.run(domain, "/bin/sh", "-c", _RESULT)
    if errors := re.search(r'"errors":\s*\[\s*(\]?)', said):
        return "" if errors[1] else FAILED
    return "cloud-init is not done"


S = TypeVar("S")


def _said(ask: Callable[[], S], else_: S | None = None) -> S | None:
    """What the guest says, if it answers."""
    try:
        return ask()
    except ConnectionFailed:
        raise
    except HostError:
        return else_


def _connects(host: str, port: int) -> bool:
    with suppress(OSError, UnicodeError), socket.create_connection((host, port), timeout=ATTEMPT):
        return True
    return False
