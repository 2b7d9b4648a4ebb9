"""The IP addresses of a guest, as far as its host knows them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

import libvirt

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import agent, domains
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document


def addresses(domain: Domain, ask: bool = True) -> list[str]:
    """Those of a running guest, loopback and link-local ones left out: those that libvirt's own networks lease to it,
    those that its agent tells, if it is to be `ask`ed, and those that the host has seen (ARP), in this order."""
    sources: tuple[Callable[[Domain], list[str]], ...] = (_leases, agent.addresses, _arp) if ask else (_leases, _arp)
    found: list[str] = []
    for source in sources:
        try:
            found += source(domain)
        except ConnectionFailed:
            raise
        except HostError:
            continue
    return [text for text in dict.fromkeys(found) if not is_local(text)]


def reachable(domain: Domain) -> list[str]:
    """The `addresses` of a running guest; its agent is asked where it has opened its channel."""
    return addresses(domain, ask=agent.is_connected(domains.xml(domain, inactive=False)))


def leases(domain: Domain) -> dict[str, int]:
    """Until when libvirt's networks lease which addresses to a guest that runs, in seconds since 1970; 0 is for ever.
    They may be those of a boot before this one."""
    found: dict[str, int] = {}
    connection = domain.raw.connect()
    for nic in document(domains.xml(domain, inactive=False)).iterfind("devices/interface"):
        source, mac = nic.find("source"), nic.find("mac")
        name = source.get("network") if source is not None else None
        if name and mac is not None:
            with suppress(HostError), faults():
                told = connection.networkLookupByName(name).DHCPLeases(mac.get("address"))
                found |= {str(lease["ipaddr"]): int(lease["expirytime"]) for lease in told}
    return found


def _leases(domain: Domain) -> list[str]:
    return _told(domain, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)


def _arp(domain: Domain) -> list[str]:
    return _told(domain, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP)


def _told(domain: Domain, source: int) -> list[str]:
    with faults():
        interfaces = domain.raw.interfaceAddresses(source, 0)
    return [str(entry["addr"]) for each in interfaces.values() for entry in each["addrs"] or ()]


def is_local(text: str) -> bool:
    """Whether it is a loopback or link-local address, by which nobody else reaches a guest."""
    address = ip_address(text)
    return address.is_loopback or address.is_link_local
