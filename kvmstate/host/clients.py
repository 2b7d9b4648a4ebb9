"""Who is on a network: interfaces of running machines, the addresses of each, and leases of those that have left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import libvirt

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import agent, domains, networks
from kvmstate.host.addresses import is_local
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain, Network
from kvmstate.host.plugs import Running, bridge, makes_bridge
from kvmstate.xmlbind import document


@dataclass(frozen=True)
class Address:
    """An IP address, and who tells it (`source`): lease, agent or ARP. A lease has the `name` that the guest gave, and
    ends at `until`, in seconds since 1970; 0 is never."""

    address: str
    source: str
    name: str = ""
    until: int | None = None


@dataclass(frozen=True)
class Client:
    """An interface on a network. Without a machine it is one that has left, whose lease has not ended."""

    machine: str
    device: str
    mac: str
    addresses: tuple[Address, ...] = ()


Told = dict[str, list[Address]]


def clients(host: Host, network: Network) -> list[Client]:
    """Those of a network, in the order of their machines. Raises HostError."""
    text = networks.xml(network, inactive=not network.active)
    # a bridge of the host's own has others on it
    bridges = {bridge(text)} - {""} if makes_bridge(text) else set()
    found = []
    for plug in Running(host).on({network.name}, bridges):
        node = document(plug.device)
        mac, target = node.find("mac"), node.find("target")
        device = "" if target is None else target.get("dev", "")
        found.append(Client(plug.machine, device, "" if mac is None else mac.get("address", "").lower()))
    leases = _leases(network)
    told = dict(host.each(lambda name: (name, _told(host, name)), {each.machine for each in found}))
    there = [replace(each, addresses=first((leases, *told[each.machine]), each.mac)) for each in found]
    gone = sorted(leases.keys() - {each.mac for each in found})
    return [*sorted(there, key=lambda each: (each.machine, each.device)), *(_left(mac, leases) for mac in gone)]


def _left(mac: str, leases: Told) -> Client:
    return Client("", "", mac, tuple(leases[mac]))


def first(sources: Iterable[Told], mac: str) -> tuple[Address, ...]:
    """The addresses of an interface, each by the first source that tells it."""
    found: dict[str, Address] = {}
    for source in sources:
        for each in source.get(mac, ()):
            found.setdefault(each.address, each)
    return tuple(found.values())


def _leases(network: Network) -> Told:
    found: Told = {}
    with suppress(HostError), faults():
        for lease in network.raw.DHCPLeases() if network.active else ():
            address = Address(str(lease["ipaddr"]), "lease", lease.get("hostname") or "", int(lease["expirytime"]))
            found.setdefault((lease.get("mac") or "").lower(), []).append(address)
    return found


def _told(host: Host, name: str) -> tuple[Told, Told]:
    """What the agent tells, and what the host has seen."""
    sources: tuple[tuple[str, Callable[[Domain], Any]], ...] = (("agent", _by_agent), ("ARP", _by_host))
    found: list[Told] = []
    for source, ask in sources:
        told: Told = {}
        try:
            for mac, address in ask(domains.find(host.connection, name)):
                if not is_local(address):
                    told.setdefault(mac.lower(), []).append(Address(address, source))
        except ConnectionFailed:
            raise
        except HostError:
            # no agent, or a machine that has gone
            told = {}
        found.append(told)
    return found[0], found[1]


def _by_agent(domain: Domain) -> list[tuple[str, str]]:
    if not agent.is_connected(domains.xml(domain, inactive=False)):
        return []
    found = agent.interfaces(domain)
    return [(mac, str(entry["ip-address"])) for mac, entries in found for entry in entries]


def _by_host(domain: Domain) -> list[tuple[str, str]]:
    with faults():
        found = domain.raw.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP, 0)
    return [(each["hwaddr"] or "", str(entry["addr"])) for each in found.values() for entry in each["addrs"] or ()]
