"""What libvirt, its dnsmasq or the kernel refuse of a network, told before they are asked.

What they take and what breaks all the same is a fault as well, but not of an imported network: that is as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import TYPE_CHECKING, cast

from kvmstate.kind import Fault, Spec

if TYPE_CHECKING:
    from kvmstate.kinds.network.addresses import Ip
    from kvmstate.kinds.network.forward import Forward
    from kvmstate.kinds.network.leases import Dhcp, DhcpHost
    from kvmstate.kinds.network.spec import NetworkSpec

# Modes in which the bridge is libvirt's own, but for that of an isolated network
ROUTED = ("nat", "route", "open")
Path = tuple[str | int, ...]
Interface = IPv4Interface | IPv6Interface
# linux/net/core/dev.c: dev_valid_name, and names that the kernel has already; of br%d libvirt makes a name of its own
_NO_DEVICE = re.compile(r"[/:\s%]|^(\.|\.\.|all|default|lo)$")
_NO_HOST_NAME = re.compile(r"[\s,;#\"\\\x00-\x1f]|[^.]{64}")
MOST_LEASES = 65535
_TAKEN_BY = {
    "nat": ("nat",),
    "interfaces": ("bridge", "private", "vepa", "passthrough"),
    "pf": ("passthrough", "hostdev"),
    "addresses": ("hostdev",),
    "managed": ("hostdev",),
    "driver": ("hostdev",),
}
_NEEDED_BY = {
    **dict.fromkeys(("private", "vepa"), ("dev", "interfaces")),
    "passthrough": ("dev", "interfaces", "pf"),
    "hostdev": ("pf", "addresses"),
}
LEAST_MTU_IPV6 = 1280


def faults(spec: NetworkSpec) -> Iterator[Fault]:
    imported = spec.remainder is not None
    addresses = [ip_interface(ip.address) for ip in spec.ips]
    yield from _forward(spec)
    if spec.port_forwards:
        from kvmstate.kinds.network import forwards  # few networks have some

        yield from forwards.faults(spec)
    yield from _one_dhcp_each(spec, addresses)
    for index, (ip, address) in enumerate(zip(spec.ips, addresses, strict=True)):
        yield from _dhcp(("ips", index), ip, address, by_path=bool(spec.xml) or imported)
        if ip.dhcp and ip.dhcp.boot and not (ip.dhcp.ranges or ip.dhcp.hosts) and not spec.xml:
            yield Fault(("ips", index, "dhcp", "boot"), "boot needs ranges or hosts", "libvirt forgets it without")
        if ip.dhcp and (ip.dhcp.ranges or ip.dhcp.hosts) and not imported:
            yield from _prefix(("ips", index, "address"), address)
    if imported:
        if spec.forward and spec.forward.nat and spec.forward.mode != "nat":
            # its mode was edited
            yield Fault(("forward", "nat"), f"forward mode {spec.forward.mode} takes no nat", "take it out as well")
        return
    if spec.forward:
        yield from _of_modes(spec.forward)
    yield from _device(spec)
    for index, address in enumerate(addresses):
        yield from _address(("ips", index, "address"), address, addresses[:index])
        yield from _leases(("ips", index, "dhcp", "hosts"), spec.ips[index].dhcp, address)
    yield from _names(spec)
    yield from _records(spec)
    yield from _ports(spec)
    yield from _routes(spec, addresses)


def _forward(spec: NetworkSpec) -> Iterator[Fault]:
    forward = spec.forward
    if forward is None:
        return
    if forward.mode in ROUTED:
        if not spec.ips and not (spec.remainder or spec.xml):
            message = f"forward mode {forward.mode} needs an address of the host"
            yield Fault(("forward", "mode"), message, "give the network one in ips, or leave forward out")
        if forward.mode == "open" and forward.dev:
            yield Fault(("forward", "dev"), "forward mode open takes no dev", "nat and route do")
        return
    mode = f"forward mode {forward.mode}"
    if spec.mtu is not None:
        yield Fault(("mtu",), f"{mode} takes no mtu", "the MTU is that of the host's bridge")
    for name in ("stp", "delay", "zone"):
        if spec.bridge and getattr(spec.bridge, name) is not None:
            yield Fault(("bridge", name), f"{mode} takes no {name}", "the host's bridge has its own")
    for name in ("dev", "interfaces"):
        if spec.bridge and spec.bridge.name and getattr(forward, name):
            yield Fault(("forward", name), f"{mode} takes bridge.name or {name}, not both", f"leave {name} out")
    for name in ("routes", "mac"):
        if getattr(spec, name):
            yield Fault((name,), f"{mode} takes no {name}", "the host has its own")
    if spec.bandwidth and forward.mode != "bridge":
        yield Fault(("bandwidth",), f"{mode} takes no bandwidth", "port groups may have one")


def _of_modes(forward: Forward) -> Iterator[Fault]:
    """What only some modes take, and what they need."""
    for name, modes in _TAKEN_BY.items():
        if getattr(forward, name) not in (None, []) and forward.mode not in modes:
            alias = type(forward).model_fields[name].alias or name
            yield Fault(
                ("forward", alias), f"forward mode {forward.mode} takes no {alias}", f"{' and '.join(modes)} do"
            )
    needs = _NEEDED_BY.get(forward.mode, ())
    if needs and not any(getattr(forward, name) for name in needs):
        message = f"forward mode {forward.mode} needs {' or '.join(needs)}"
        yield Fault(("forward", "mode"), message, "it says which cards of the host guests get")
    nat = forward.nat
    for name, low, high in (
        ("port", nat and nat.port and nat.port.start, nat and nat.port and nat.port.end),
        (
            "address",
            nat and nat.address and ip_address(nat.address.start),
            nat and nat.address and ip_address(nat.address.end),
        ),
    ):
        if low and high and (type(low) is not type(high) or int(low) > int(high)):
            message = f"the range ends ({high}) before it starts ({low})"
            yield Fault(("forward", "nat", name, "end"), message, "turn them around")


def _records(spec: NetworkSpec) -> Iterator[Fault]:
    dns = spec.dns
    for index, forwarder in enumerate(dns.forwarders if dns else ()):
        if not (forwarder.addr or forwarder.domain):
            yield Fault(("dns", "forwarders", index), "a forwarder needs addr or domain", "such as addr: 9.9.9.9")
    for index, srv in enumerate(dns.srv if dns else ()):
        for name in ("port", "priority", "weight"):
            if getattr(srv, name) is not None and not srv.target:
                yield Fault(("dns", "srv", index, name), f"{name} needs target", "the host that has the service")


def _routes(spec: NetworkSpec, addresses: list[Interface]) -> Iterator[Fault]:
    for index, route in enumerate(spec.routes):
        to, gateway = ip_interface(route.to), ip_address(route.gateway)
        if to.ip != to.network.network_address:
            yield Fault(("routes", index, "to"), f"{route.to} is not the address of a network", f"say {to.network}")
        if not any(gateway in address.network for address in addresses):
            message = f"{gateway} is in no prefix of this network"
            yield Fault(("routes", index, "gateway"), message, "name a guest that goes on with it")


def _ports(spec: NetworkSpec) -> Iterator[Fault]:
    if spec.forward is None or spec.forward.mode in (*ROUTED, "private", "vepa"):
        tagged: list[Path] = [("vlan",)] if spec.vlan else []
        tagged += [("portGroups", index, "vlan") for index, group in enumerate(spec.port_groups) if group.vlan]
        for path in tagged:
            hint = "a bridge of Open vSwitch, and forward modes passthrough and hostdev have them"
            yield Fault(path, "guests of this network have no VLANs", hint)
    groups = [(("portGroups", index), group) for index, group in enumerate(spec.port_groups)]
    for at, vlan in (((), spec.vlan), *((at, group.vlan) for at, group in groups)):
        if vlan and vlan.trunk is False and len(vlan.tags) > 1:
            yield Fault((*at, "vlan", "trunk"), "several tags are a trunk", "leave trunk out, or all tags but one")
    defaults = [(at, group) for at, group in groups if group.default]
    for at, _ in defaults[1:]:
        yield Fault((*at, "default"), f"{defaults[0][1].name} is the default already", "one group is")


def _device(spec: NetworkSpec) -> Iterator[Fault]:
    name = spec.bridge.name if spec.bridge else None
    if name and _NO_DEVICE.search(name):
        yield Fault(("bridge", "name"), f"{name!r} is not a name that Linux gives to a device", "such as br-lan")
    if spec.mtu is not None and spec.mtu < LEAST_MTU_IPV6 and any(":" in ip.address for ip in spec.ips):
        yield Fault(("mtu",), f"IPv6 needs an MTU of at least {LEAST_MTU_IPV6}", "or leave the IPv6 addresses out")


def refused(spec: NetworkSpec, user: Spec, path: Path) -> Fault | None:
    """Packets that do not pass a bridge of the host are not filtered, and libvirt starts no such machine."""
    forward, other = spec.forward, cast("object", user)
    if not forward or forward.mode in ROUTED or (forward.mode == "bridge" and not (forward.interfaces or forward.dev)):
        return None
    if user.remainder is not None:
        return None
    for step in path[:-1]:
        other = other[step] if isinstance(other, list) and isinstance(step, int) else getattr(other, str(step), None)
    if getattr(other, "filterref", None) is None:
        return None
    why = f"an interface on a network of mode {forward.mode} over devices of the host cannot have filters or groups"
    return Fault((*path[:-1], "filterref"), why, "only packets on a bridge of the host are filtered")


def _one_dhcp_each(spec: NetworkSpec, addresses: list[Interface]) -> Iterator[Fault]:
    first: dict[int, int] = {}
    for index, (ip, address) in enumerate(zip(spec.ips, addresses, strict=True)):
        if ip.dhcp and (ip.dhcp.ranges or ip.dhcp.hosts):
            other = first.setdefault(address.version, index)
            if other != index:
                yield Fault(
                    ("ips", index, "dhcp"),
                    f"libvirt leases addresses of one IPv{address.version} prefix of a network only, and ips[{other}] "
                    "has dhcp already",
                    "make it a network of its own",
                )


def _prefix(at: Path, address: Interface) -> Iterator[Fault]:
    length = address.network.prefixlen
    if address.version == 6 and length < 64:
        yield Fault(at, f"dnsmasq leases IPv6 addresses of prefixes from /64 on, not of /{length}", "take a /64 of it")


def _dhcp(at: Path, ip: Ip, address: Interface, by_path: bool) -> Iterator[Fault]:
    """`by_path`: XML that no field tells may say more of a lease."""
    dhcp = ip.dhcp
    if dhcp is None or not (dhcp.ranges or dhcp.hosts):
        return
    prefix = address.network
    for index, span in enumerate(dhcp.ranges):
        path: Path = (*at, "dhcp", "ranges", index)
        start, end = ip_address(span.start), ip_address(span.end)
        if message := _no_host(start, address):
            yield Fault((*path, "start"), message, f"start at {prefix.network_address + 1}")
        if message := _no_host(end, address):
            yield Fault((*path, "end"), message, f"end at {prefix.broadcast_address - 1}")
        if int(end) - int(start) >= MOST_LEASES:
            yield Fault(path, f"a range has at most {MOST_LEASES} addresses", "several ranges may follow each other")
    for index, host in enumerate(dhcp.hosts):
        yield from _identity((*at, "dhcp", "hosts", index), host, address.version, by_path)


def _no_host(ip: IPv4Address | IPv6Address, address: Interface) -> str:
    """Why no guest and no host can have it; an empty string where they can."""
    network = address.network
    if address.version == 6 or network.prefixlen >= 31:
        return ""
    if ip == network.network_address:
        return f"{ip} is the address of the network itself"
    return f"{ip} is the broadcast address of {network}" if ip == network.broadcast_address else ""


def _identity(at: Path, host: DhcpHost, version: int, by_path: bool) -> Iterator[Fault]:
    if version == 6 and host.mac:
        yield Fault((*at, "mac"), "a lease of an IPv6 address takes no mac", "give it the name that the guest tells")
    elif version == 4 and host.id:
        yield Fault((*at, "id"), "a lease of an IPv4 address takes no id", "give it a mac or a name")
    elif not by_path and not host.name and not (host.mac if version == 4 else host.id):
        wants = "mac or name" if version == 4 else "name or id"
        yield Fault(at, f"a lease of an IPv{version} address needs {wants}", "it says whose the address is")


def _address(at: Path, address: Interface, before: list[Interface]) -> Iterator[Fault]:
    network = address.network
    if message := _no_host(address.ip, address):
        yield Fault(at, message, f"such as {network.network_address + 1}/{network.prefixlen}")
    for index, other in enumerate(before):
        # the same one is reported as a duplicate key
        if other != address and other.version == address.version and other.network.overlaps(network):
            message = f"{network} overlaps with {other.network} of ips[{index}]"
            yield Fault(at, message, "the host needs one address in a prefix")


def _leases(at: Path, dhcp: Dhcp | None, address: Interface) -> Iterator[Fault]:
    seen: dict[tuple[str, str], int] = {}
    for index, host in enumerate(dhcp.hosts if dhcp else ()):
        ip = ip_address(host.ip)
        if ip == address.ip:
            yield Fault((*at, index, "ip"), f"{ip} is the host's own address on this network", "lease another one")
        elif message := _no_host(ip, address):
            yield Fault((*at, index, "ip"), message, "lease another one")
        for field in ("mac", "name"):
            value = getattr(host, field)
            if value and (first := seen.setdefault((field, value), index)) != index:
                message = f"{value} has a lease already: hosts[{first}]"
                yield Fault((*at, index, field), message, "dnsmasq gives it one of the two")


def _names(spec: NetworkSpec) -> Iterator[Fault]:
    found: dict[Path, str] = defaultdict(str)
    if spec.domain:
        found["domain", "name"] = spec.domain.name
    for index, ip in enumerate(spec.ips):
        for number, lease in enumerate(ip.dhcp.hosts if ip.dhcp else ()):
            found["ips", index, "dhcp", "hosts", number, "name"] = lease.name or ""
    for index, host in enumerate(spec.dns.hosts if spec.dns else ()):
        for number, name in enumerate(host.hostnames):
            found["dns", "hosts", index, "hostnames", number] = name
    for path, name in found.items():
        if _NO_HOST_NAME.search(name):
            yield Fault(path, f"{name[:80]!r} is not a name in the DNS", "letters, digits and -, up to 63 between dots")
