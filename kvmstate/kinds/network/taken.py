"""What of a network that is to start somebody else has already: a bridge, or a prefix.

Other networks of the project are told apart by `validate`; here are those that are not of it, or leave it, and the
host's own devices and routes, as far as they can be seen. What libvirt would refuse is blocked, what it would not is
said.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from kvmstate.host import networks, plugs
from kvmstate.host.kernel_links import losing_routes
from kvmstate.host.links import Links, links
from kvmstate.host.objects import Network
from kvmstate.kind import Scene
from kvmstate.kinds.network.rules import ROUTED
from kvmstate.kinds.network.spec import NetworkSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import document, parse

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class _Other:
    """A network of the host. `addresses` are those that it has now, as it runs."""

    name: str
    bridge: str
    makes_bridge: bool
    addresses: tuple[Interface, ...]
    domain: str = ""
    active: bool = False


class Taken:
    """What there is besides the project's networks, as of the first question."""

    def __init__(self, at: Scene) -> None:
        self._at = at

    @cached_property
    def networks(self) -> list[_Other]:
        def look(network: Network) -> _Other:
            text = networks.xml(network, inactive=not (active := network.active))
            found = parse(NetworkSpec, document(text))
            addresses = tuple(ipaddress.ip_interface(ip.address) for ip in (found.ips if active else ()))
            domain = found.domain.name if found.domain else ""
            return _Other(network.name, plugs.bridge(text), plugs.makes_bridge(text), addresses, domain, active)

        return self._at.host.each(look, networks.all_networks(self._at.host.connection))

    @cached_property
    def strangers(self) -> list[_Other]:
        """Also those that leave the project: they go after others have come."""
        changes = self._at.changes.items()
        own = {*self._at.desired, *(change.moved_from or id_ for id_, change in changes if change.desired)}
        return [each for each in self.networks if ResourceId(Network.type, each.name) not in own]

    @cached_property
    def bridges(self) -> list[_Other]:
        """Those that make a bridge and keep it."""
        moved = {change.moved_from: id_ for id_, change in self._at.changes.items() if change.desired}
        return [each for each in self.networks if each.makes_bridge and self._keeps(each, moved)]

    def _keeps(self, other: _Other, moved: Mapping[ResourceId | None, ResourceId]) -> bool:
        """Of the project's own, one that libvirt has chosen, and that of one that runs until it is restarted."""
        id_ = ResourceId(Network.type, other.name)
        id_ = moved.get(id_, id_)
        if other in self.strangers or (own := self._at.desired.get(id_)) is None:
            return True
        change, bridge = self._at.changes.get(id_), own.spec.bridge
        named = bridge.name if bridge else None
        return named in (None, other.bridge) or (other.active and not (change and change.restarts))

    def instead(self, other: _Other, hint: str) -> str:
        """What to do about one that has the same: `hint`, unless it is the project's own."""
        if other not in self.strangers or ResourceId(Network.type, other.name) not in self._at.inventory.entries:
            return hint
        return (
            f"{other.name} is on record of this project: rename it with `moved` in kvmstate.yaml, or destroy it before"
        )

    @cached_property
    def links(self) -> Links:
        """Without the bridges of networks, and what is reached through them."""
        found = links(self._at.host) or Links(None, ())
        bridges = {each.bridge for each in self.networks if each.makes_bridge}
        devices = None if found.devices is None else found.devices - bridges
        return Links(devices, tuple(route for route in found.routes if route[0] not in bridges))

    @cached_property
    def losing(self) -> list[str]:
        """Devices whose IPv6 routes the host loses with a network that forwards IPv6."""
        return losing_routes(self._at.host)

    def judged(self, change: Change) -> Change:
        """The change of a network, blocked where it could not start, or saying what it meets."""
        spec = change.spec
        if change.blocked or change.action not in (Action.CREATE, Action.UPDATE):
            return change
        starts = spec.active and (change.restarts or not change.running)
        # libvirt defines no two with one bridge, whether they run or not
        for why, hint in chain(_bridge_refused(change, self), _refused(spec, self) if starts else ()):
            return replace(change, blocked=why, hint=hint)
        if not starts:
            return change
        return change.saying(*_met(spec, self), *self._same_domain(change))

    def _same_domain(self, change: Change) -> Iterator[str]:
        """Each network's dnsmasq answers of it what it knows itself, and not what the other one does."""
        name = change.spec.domain.name if change.spec.domain else ""
        own = {
            id_.name: each.spec.domain for id_, each in self._at.desired.items() if isinstance(each.spec, NetworkSpec)
        }
        domains = {each.name: each.domain for each in self.strangers} | {
            network: domain.name if domain else "" for network, domain in own.items()
        }
        for network, domain in sorted(domains.items()):
            if name and domain == name and network != change.id.name:
                yield f"{name} is also the domain of network {network}"


def _own_bridge(spec: NetworkSpec) -> str | None:
    """The name of the bridge that it makes."""
    own = spec.forward is None or spec.forward.mode in ROUTED
    return spec.bridge.name if own and spec.bridge else None


def _addresses(spec: NetworkSpec) -> list[Interface]:
    return [ipaddress.ip_interface(ip.address) for ip in spec.ips]


def _bridge_refused(change: Change, host: Taken) -> Iterator[tuple[str, str]]:
    bridge, own = _own_bridge(change.spec), {change.id, change.moved_from}
    for other in host.bridges if bridge else ():
        if other.bridge == bridge and ResourceId(Network.type, other.name) not in own:
            why = f"the bridge {bridge} is also that of network {other.name}"
            yield why, host.instead(other, "choose another name for the bridge")


def _refused(spec: NetworkSpec, host: Taken) -> Iterator[tuple[str, str]]:
    if (bridge := _own_bridge(spec)) and bridge in (host.links.devices or ()):
        yield (
            f"the host has a device {bridge} already",
            f"choose another name for the bridge; one that was left behind goes by `ip link delete {bridge}`",
        )
    for address in _addresses(spec):
        prefix = address.network
        for other in host.strangers:
            for found in other.addresses:
                if prefix == found.network:
                    why = f"{prefix} is also the prefix of network {other.name}, which runs"
                    yield why, host.instead(other, "choose another prefix")
                if address.ip == found.ip:
                    why = f"{address.ip} is also the address of network {other.name}, which runs"
                    yield why, host.instead(other, "choose another one")
        for device, route in host.links.routes:
            if prefix == route:
                yield f"the host reaches {prefix} through {device}", "choose another prefix"


def _met(spec: NetworkSpec, host: Taken) -> Iterator[str]:
    for prefix in (address.network for address in _addresses(spec)):
        for other in host.strangers:
            for found in (address.network for address in other.addresses):
                if found.version == prefix.version and found.overlaps(prefix):
                    yield f"{prefix} overlaps with {found} of network {other.name}"
        for device, route in host.links.routes:
            if route.version == prefix.version and route.overlaps(prefix):
                yield f"{prefix} overlaps with {route}, which the host reaches through {device}"
    if spec.forward and spec.forward.mode in ROUTED and any(":" in ip.address for ip in spec.ips):
        for device in host.losing:
            yield (
                f"the host has IPv6 routes through {device} by router advertisements, which it takes no more when it "
                f"forwards IPv6: set net.ipv6.conf.{device}.accept_ra=2 there"
            )
    if host.links.devices is not None and (forward := spec.forward):
        bridge = spec.bridge.name if spec.bridge and forward.mode == "bridge" else None
        named = [forward.dev, forward.pf, bridge, *(each.dev for each in forward.interfaces)]
        for device in dict.fromkeys(filter(None, named)):
            if device not in host.links.devices and all(each.bridge != device for each in host.networks):
                yield f"the host has no device {device}"
