"""The host's own network, as its kernel knows it: devices, and what is reached through which. libvirt tells neither."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Links:
    """`devices` are None where nobody can look. `routes` are prefixes with the device that each is reached through,
    without default routes and loopback."""

    devices: frozenset[str] | None
    routes: tuple[tuple[str, Prefix], ...]


def links(host: Host) -> Links | None:
    """None where nobody can look: libvirt reaches the host, and files of this machine do not tell of it."""
    for pid in sorted(host.sight.daemons()):
        # one that has gone, or is somebody else's
        with suppress(OSError, ValueError):
            return _read(Path(f"/proc/{pid}/net"))
    return None


def _read(folder: Path) -> Links:
    devices = [line.partition(":")[0].strip() for line in (folder / "dev").read_text().splitlines()[2:]]
    routes = [_route4(line.split()) for line in (folder / "route").read_text().splitlines()[1:]]
    with suppress(OSError):
        # a kernel without IPv6 has none
        routes += [_route6(line.split()) for line in (folder / "ipv6_route").read_text().splitlines()]
    lasting = tuple((device, prefix) for device, prefix in routes if device != "lo" and not _is_common(prefix))
    return Links(frozenset(devices), lasting)


def _is_common(prefix: Prefix) -> bool:
    return prefix.prefixlen == 0 or prefix.is_link_local or prefix.is_multicast


def _route4(fields: list[str]) -> tuple[str, Prefix]:
    """See proc_pid_net(5): numbers are in the byte order of the machine."""
    address, mask = (socket.inet_ntoa(struct.pack("=I", int(fields[at], 16))) for at in (1, 7))
    return fields[0], IPv4Network(f"{address}/{mask}")


def _route6(fields: list[str]) -> tuple[str, Prefix]:
    return fields[-1], IPv6Network((IPv6Address(bytes.fromhex(fields[0])), int(fields[1], 16)))
