"""The links of a host as its kernel knows them, where kvmstate runs on it: `ip` of iproute2 tells them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

_SECONDS = 10
_ACCEPT_RA = "/proc/sys/net/ipv6/conf/{}/accept_ra"
# what others than people make, for guests
TAPS = ("tun", "macvtap", "ipvtap")
# by which packets on a bridge pass through iptables: without the module there are none of these files
_BRIDGED = {"IPv4": "bridge-nf-call-iptables", "IPv6": "bridge-nf-call-ip6tables"}
_STACKED = ("vlan", "macvlan", "ipvlan", "macvtap", "ipvtap")


@dataclass(frozen=True)
class Link:
    """`kind` is bridge, vlan, bond and the like, ethernet for what is none of them. `master` is the bridge or bond that
    it is in, `over` the device that a VLAN is on, `vlan` its number."""

    name: str
    kind: str
    mac: str
    up: bool
    mtu: int
    addresses: tuple[str, ...] = ()
    master: str = ""
    over: str = ""
    vlan: int | None = None


def kernel_links(host: Host) -> list[Link] | None:
    """None where nobody can look: it is another machine, or a network that this process may not see."""
    for pid in sorted(host.sight.daemons()):
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            return read(_said([*entering(pid), "ip", "-json", "-details", "address"]))
    return None


def losing_routes(host: Host) -> list[str]:
    """The devices whose IPv6 default routes come from router advertisements, which the kernel does not take any more
    once it forwards IPv6, unless accept_ra is 2. Empty where nobody can look."""
    for pid in sorted(host.sight.daemons()):
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            into = entering(pid)
            routes = json.loads(_said([*into, "ip", "-6", "-json", "route", "show", "default"]) or "[]")
            devices = dict.fromkeys(each["dev"] for each in routes if each.get("protocol") == "ra" and "dev" in each)
            return [each for each in devices if _said([*into, "cat", _ACCEPT_RA.format(each)]).strip() != b"2"]
    return []


def unfiltered(host: Host) -> dict[str, str]:
    """The IP families of which packets on a bridge do not pass through iptables, each with the kernel's setting for it:
    rules of network filters about them have no effect. Empty where nobody can look."""
    for pid in sorted(host.sight.daemons()):
        with suppress(OSError, subprocess.SubprocessError):
            files = [f"/proc/sys/net/bridge/{name}" for name in _BRIDGED.values()]
            # a file that is not there does not say so either; who may not look there is another failure
            look = f"grep -slx 1 {' '.join(files)} || :"
            on = _said([*entering(pid), "sh", "-c", look]).decode().split()
            off = (family for family, file in zip(_BRIDGED, files, strict=True) if file not in on)
            return {family: f"net.bridge.{_BRIDGED[family]}" for family in off}
    return {}


def _said(words: list[str]) -> bytes:
    return subprocess.run(words, capture_output=True, check=True, timeout=_SECONDS).stdout


def entering(pid: int) -> list[str]:
    """The beginning of a command that is to see the network of this process. Raises OSError, for who may not see it."""
    try:
        if os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            return []
    except PermissionError:
        # whose devices are the same, is in the same one
        if _devices(pid) == _devices("self"):
            return []
        raise
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def way_in(host: Host, enter: Callable[[int], list[str]] = entering) -> tuple[int, list[str]] | None:
    """A process that works for libvirt on the host, and the beginning of a command that is to see what it sees, as
    `enter` says: its network. None where nobody can look."""
    for pid in sorted(host.sight.daemons()):
        # a daemon may have been restarted
        with suppress(OSError):
            return pid, enter(pid)
    return None


def _devices(pid: int | str) -> set[str]:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def read(told: bytes) -> list[Link]:
    """What `ip -json -details address` tells. Raises ValueError."""
    found = [each for each in json.loads(told) if each.get("ifname")]
    names = {each.get("ifindex"): each["ifname"] for each in found}
    return [_link(each, names) for each in found]


def _link(each: dict[str, Any], names: dict[Any, str]) -> Link:
    info = each.get("linkinfo", {})
    addresses = [f"{ip['local']}/{ip['prefixlen']}" for ip in each.get("addr_info", ()) if "local" in ip]
    kind = "loopback" if each.get("link_type") == "loopback" else str(info.get("info_kind") or "ethernet")
    data = info.get("info_data") or {}
    return Link(
        each["ifname"],
        kind,
        str(each.get("address", "")),
        "UP" in each.get("flags", ()),
        int(each.get("mtu", 0)),
        tuple(addresses),
        str(each.get("master") or ""),
        # of a veth it is the other end
        str(each.get("link") or names.get(each.get("link_index")) or "") if kind in _STACKED else "",
        int(data["id"]) if kind == "vlan" and "id" in data else None,
    )
