"""Whether a virtual machine does its work after a change."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.kinds.snapshot_policy.spec import HealthCheck, TcpSocket

# Seconds between two attempts, and the longest that one may take
PERIOD = 1.0
ATTEMPT = 5.0


class Unhealthy(HostError):
    """A health check failed."""


@dataclass(frozen=True)
class Probe:
    """`check` on a domain."""

    check: HealthCheck
    domain: Domain

    def lacks(self) -> str:
        """What is not as it should be right now, else nothing. Raises ConnectionFailed."""
        if self.check.guest_agent and not _agent_answers(self.domain):
            return "its guest agent does not answer"
        if (tcp := self.check.tcp_socket) and not any(_connects(host, tcp.port) for host in self._hosts(tcp)):
            where = f"{tcp.host.replace('{domain}', self.domain.name)}:{tcp.port}" if tcp.host else f"port {tcp.port}"
            return f"{where} takes no connection"
        return ""

    def _hosts(self, tcp: TcpSocket) -> Iterator[str]:
        if tcp.host:
            yield tcp.host.replace("{domain}", self.domain.name)
        else:
            yield from domains.addresses(self.domain)

    def wait(self) -> None:
        """Until it is healthy. Raises Unhealthy, ConnectionFailed."""
        deadline = time.monotonic() + self.check.timeout
        while lacks := self.lacks():
            if time.monotonic() >= deadline or domains.state(self.domain) == "stopped":
                raise Unhealthy(
                    f"the health check failed: {lacks} (waited {self.check.timeout} s)",
                    "see the guest's console, and healthCheck in the snapshot policy",
                )
            time.sleep(PERIOD)


def _agent_answers(domain: Domain) -> bool:
    try:
        return domains.agent_answers(domain)
    except ConnectionFailed:
        raise
    except HostError:
        return False


def _connects(host: str, port: int) -> bool:
    with suppress(OSError, UnicodeError), socket.create_connection((host, port), timeout=ATTEMPT):
        return True
    return False
