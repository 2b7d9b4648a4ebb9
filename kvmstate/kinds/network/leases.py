"""Addresses of the host on a network, and what its dnsmasq gives out: https://libvirt.org/formatnetwork.html#addressing"""

import ipaddress
from typing import Annotated, Any, Literal, Self

from lxml import etree
from pydantic import Field, PlainSerializer, model_validator

from kvmstate.model.address import IpAddress, IpInterface, Mac
from kvmstate.model.effect import Effect
from kvmstate.model.quantity import Duration
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import YES_NO, same_case

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}


def _read_ip(node: etree._Element, lookup: Lookup) -> str | None:
    address = node.get("address")
    if address is None:
        return None
    prefix = node.get("prefix") or node.get("netmask") or ("64" if ":" in address else _classful(address))
    return ipaddress.ip_interface(f"{address}/{prefix}").with_prefixlen


def _classful(address: str) -> str:
    """libvirt's default prefix when neither prefix nor netmask is given is the address class's."""
    first = int(address.split(".")[0])
    return "8" if first < 128 else "16" if first < 192 else "24"


def _write_ip(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value is None:
        return
    interface = ipaddress.ip_interface(value)
    node.attrib.pop("netmask", "")
    if interface.version == 6 or node.get("family"):
        # IPv4 is what libvirt takes it for otherwise, and shows none
        node.set("family", f"ipv{interface.version}")
    node.set("address", str(interface.ip))
    node.set("prefix", str(interface.network.prefixlen))


def _read_lease(node: etree._Element, lookup: Lookup) -> int | str | None:
    expiry = node.get("expiry")
    if expiry is None:
        return None
    return int(expiry) * _UNITS[node.get("unit", "minutes")] or "infinite"


def _write_lease(node: etree._Element, value: int | str | None, lookup: Lookup) -> None:
    if value is None:
        if (parent := node.getparent()) is not None:
            parent.remove(node)
        return
    seconds = 0 if isinstance(value, str) else value
    unit, step = next((unit, step) for unit, step in reversed(_UNITS.items()) if seconds % step == 0)
    node.set("expiry", str(seconds // step))
    if seconds:
        node.set("unit", unit)
    else:
        node.attrib.pop("unit", "")


def _said_lease(value: int | str) -> str:
    if isinstance(value, str):
        return value
    letter, step = next((unit[0], step) for unit, step in reversed(_UNITS.items()) if value % step == 0)
    return f"{value // step}{letter}"


ADDRESS = Element(_read_ip, _write_ip)
# dnsmasq takes none that is shorter
Lease = Annotated[Literal["infinite"] | Annotated[Duration, Field(ge=120)], PlainSerializer(_said_lease)]


def lease(**told: Any) -> Any:
    doc = "How long a guest may have an address, from 2m on; or infinite. Default: 1h."
    return xml("lease", Element(_read_lease, _write_lease), doc=doc, **told)


class DhcpRange(Section):
    start: IpAddress = xml("@start", required=True, doc="The first address.")
    end: IpAddress = xml("@end", required=True, doc="The last address.")
    lease: Lease | None = lease()


class DhcpHost(Section):
    """One fixed lease."""

    ip: IpAddress = xml("@ip", required=True, doc="The fixed address.")
    mac: Mac | None = xml("@mac", same=same_case, effect=Effect.LIVE, doc="The interface that gets the address.")
    name: str | None = xml("@name", effect=Effect.LIVE, doc="The guest's host name.")
    id: str | None = xml(
        "@id", same=same_case, effect=Effect.LIVE, pattern="^([0-9a-fA-F]{1,4}:)+[0-9a-fA-F]{1,4}$",
        doc="The DUID by which a guest asks for an IPv6 address, such as 0:3:0:1:52:54:0:12:34:56.",
    )  # fmt: skip
    lease: Lease | None = lease(effect=Effect.LIVE)


class Boot(Section):
    """What a guest loads that boots from the network."""

    file: str = xml("@file", required=True, doc="Its name on the TFTP server.")
    server: str | None = xml("@server", doc="The TFTP server's address. Default: the host.")


class Dhcp(Section):
    ranges: list[DhcpRange] = xml_list("range", whole=True, effect=Effect.LIVE, doc="Addresses to lease.")
    hosts: list[DhcpHost] = xml_list("host", key="ip", whole=True, effect=Effect.LIVE, doc="Fixed leases.")
    boot: Boot | None = xml("bootp", whole=True)


class Ip(Section):
    """An address of the host on this network, with the network's prefix length."""

    address: IpInterface = xml(".", ADDRESS, required=True, doc="192.168.150.1/24")
    dhcp: Dhcp | None = xml("dhcp", whole=True, by_parts=True, doc="Leases that libvirt's dnsmasq gives out.")
    tftp: str | None = xml("tftp/@root", pattern="^/", doc="A folder of the host that dnsmasq serves to guests.")
    local_ptr: bool | None = xml(
        "@localPtr", YES_NO, doc="Whether names of its addresses are asked of dnsmasq alone, and of no other server."
    )

    @model_validator(mode="after")
    def _inside(self) -> Self:
        network = ipaddress.ip_interface(self.address).network
        dhcp = self.dhcp or Dhcp()
        for ip in [*(h.ip for h in dhcp.hosts), *(ip for r in dhcp.ranges for ip in (r.start, r.end))]:
            if ipaddress.ip_address(ip) not in network:
                raise ValueError(f"{ip} is not in the network {network}")
        for r in dhcp.ranges:
            if int(ipaddress.ip_address(r.start)) > int(ipaddress.ip_address(r.end)):
                raise ValueError(f"the range ends ({r.end}) before it starts ({r.start})")
        return self


class Route(Section):
    """Where the host sends what is for another network behind a guest."""

    to: IpInterface = xml(".", ADDRESS, required=True, doc="192.168.222.0/24")
    gateway: IpAddress = xml("@gateway", required=True, doc="The guest's address on this network.")
    metric: int | None = xml("@metric", ge=1, doc="Of several ways, that with the smallest is taken.")
