"""What libvirt takes of a filter and its firewall refuses when a machine starts, or does otherwise than it is said."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvmstate.kind import Fault
from kvmstate.kinds.network_filter.values import PROTOCOLS, known
from kvmstate.xmlbind import Section

if TYPE_CHECKING:
    from kvmstate.kinds.network_filter.protocols import Protocol
    from kvmstate.kinds.network_filter.spec import NetworkFilterSpec

Path = tuple[str | int, ...]
_WITH_PORTS = {"tcp", "udp", "sctp", 33}
# by field: the first of several, and the last one
_RANGES = {
    "src_port_start": "src_port_end",
    "dst_port_start": "dst_port_end",
    "src_ip_from": "src_ip_to",
    "dst_ip_from": "dst_ip_to",
    "type": "type_end",
    "code": "code_end",
}
_NEEDS = {
    "src_ip_mask": "src_ip_addr",
    "dst_ip_mask": "dst_ip_addr",
    "src_mac_mask": "src_mac_addr",
    "dst_mac_mask": "dst_mac_addr",
    "arp_src_ip_mask": "arp_src_ip_addr",
    "arp_dst_ip_mask": "arp_dst_ip_addr",
    "ipset": "ipset_flags",
    "ipset_flags": "ipset",
    **{last: first for first, last in _RANGES.items()},
}


def faults(spec: NetworkFilterSpec) -> Iterator[Fault]:
    if spec.remainder is not None:
        return
    for index, rule in enumerate(spec.rules):
        for name, said in getattr(rule, "protocols", {}).items():
            for number, protocol in enumerate(said):
                at = ("rules", index, name, number) if len(said) > 1 else ("rules", index, name)
                yield from _incomplete(at, protocol, said)
                yield from _turned(at, protocol)
                yield from _ports(at, protocol)


def variables(said: object) -> Iterator[str]:
    """Those in values: `$PORT`, `$IP[@1]`."""
    if isinstance(said, dict):
        for value in said.values():
            yield from variables(value)
    elif isinstance(said, list):
        for value in said:
            yield from variables(value)
    elif isinstance(said, Section):
        yield from variables(said.model_dump(exclude={"comment"}, exclude_unset=True))
    elif isinstance(said, str) and (found := re.match(r"\$(\w+)", said)):
        yield found[1]


def _alias(protocol: Protocol, name: str) -> str:
    return type(protocol).model_fields[name].alias or name


def _incomplete(at: Path, protocol: Protocol, beside: list[Protocol]) -> Iterator[Fault]:
    for name, other in _NEEDS.items():
        if getattr(protocol, name, None) is not None and all(getattr(each, other, None) is None for each in beside):
            needed = _alias(protocol, other)
            yield Fault((*at, _alias(protocol, name)), f"{_alias(protocol, name)} needs {needed}", f"say {needed} too")


def _turned(at: Path, protocol: Protocol) -> Iterator[Fault]:
    for first, last in _RANGES.items():
        begin, end = (_order(getattr(protocol, name, None)) for name in (first, last))
        if begin is not None and end is not None and type(begin) is type(end) and begin > end:  # type: ignore[operator]
            yield Fault((*at, _alias(protocol, last)), f"it ends before {_alias(protocol, first)}", "turn them around")


def _order(value: object) -> object:
    """What can be compared; None for a variable."""
    number = known(value)
    if isinstance(number, int):
        return number
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        return None


def _ports(at: Path, protocol: Protocol) -> Iterator[Fault]:
    """Of what is looked at as Ethernet carries it."""
    if "protocol" not in type(protocol).model_fields:
        return
    carried = getattr(protocol, "protocol", None)
    if isinstance(carried, str) and carried.startswith("$"):
        return
    for name in ("src_port_start", "dst_port_start"):
        if getattr(protocol, name) is not None and carried not in _WITH_PORTS:
            alias = _alias(protocol, name)
            yield Fault((*at, alias), f"{alias} needs protocol tcp, udp or sctp", "or make it a tcp or udp rule")
    if getattr(protocol, "type", None) is not None and known(carried) not in ("icmpv6", PROTOCOLS["icmpv6"]):
        yield Fault((*at, "type"), "type needs protocol icmpv6", "say protocol: icmpv6")
