"""Addresses of the host on a network: https://libvirt.org/formatnetwork.html#addressing"""

import ipaddress
from typing import Any, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kinds.network import Dhcp
from kvmstate.model.address import IpAddress, IpInterface
from kvmstate.model.effect import Effect
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml
from kvmstate.xmlbind.codecs import YES_NO


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


def _read_netmask(node: etree._Element, lookup: Lookup) -> bool | None:
    return True if node.get("netmask") and not node.get("prefix") else None


def _write_netmask(node: etree._Element, value: bool | None, lookup: Lookup) -> None:
    if value and (prefix := node.get("prefix")):
        del node.attrib["prefix"]
        node.set("netmask", str(ipaddress.ip_network(f"0.0.0.0/{prefix}").netmask))


ADDRESS = Element(_read_ip, _write_ip)
NETMASK = Element(_read_netmask, _write_netmask)


def netmask() -> Any:
    """Declare, behind the address, how libvirt's XML says the prefix of it."""
    doc = "Whether libvirt's XML says the length of an IPv4 prefix as a netmask. It means the same."
    return xml(".", NETMASK, same=lambda want, seen: True, lasting=True, effect=Effect.NONE, doc=doc)


class Ip(Section):
    """An address of the host on this network, with the network's prefix length."""

    address: IpInterface = xml(".", ADDRESS, required=True, doc="192.168.150.1/24")
    netmask: bool | None = netmask()
    dhcp: Dhcp | None = xml("dhcp", whole=True, by_parts=True, doc="Leases that libvirt's dnsmasq gives out.")
    tftp: str | None = xml("tftp/@root", pattern="^/", doc="A folder of the host that dnsmasq serves to guests.")
    local_ptr: bool | None = xml(
        "@localPtr", YES_NO, doc="Whether names of its addresses are asked of dnsmasq alone, and of no other server."
    )

    @model_validator(mode="after")
    def _inside(self) -> Self:
        network = ipaddress.ip_interface(self.address).network
        if (dhcp := self.dhcp) is None:
            return self
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
    netmask: bool | None = netmask()
    gateway: IpAddress = xml("@gateway", required=True, doc="The guest's address on this network.")
    metric: int | None = xml("@metric", ge=1, doc="Of several ways, that with the smallest is taken.")
