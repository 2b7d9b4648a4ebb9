"""Network: https://libvirt.org/formatnetwork.html"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Claim, Fault, Form, Spec
from kvmstate.kinds.network import rules
from kvmstate.model.address import IpAddress, IpInterface, Mac
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, same_case


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
    node.set("family", f"ipv{interface.version}")
    node.set("address", str(interface.ip))
    node.set("prefix", str(interface.network.prefixlen))


class DhcpRange(Section):
    start: IpAddress = xml("@start", required=True, doc="The first address.")
    end: IpAddress = xml("@end", required=True, doc="The last address.")


class DhcpHost(Section):
    """One fixed lease."""

    ip: IpAddress = xml("@ip", required=True, doc="The fixed address.")
    mac: Mac | None = xml("@mac", same=same_case, effect=Effect.LIVE, doc="The interface that gets the address.")
    name: str | None = xml("@name", effect=Effect.LIVE, doc="The guest's host name.")


class Dhcp(Section):
    ranges: list[DhcpRange] = xml_list("range", whole=True, doc="Addresses to lease.")
    hosts: list[DhcpHost] = xml_list("host", key="ip", whole=True, effect=Effect.LIVE, doc="Fixed leases.")


class Ip(Section):
    """An address of the host on this network, with the network's prefix length."""

    address: IpInterface = xml(".", Element(_read_ip, _write_ip), required=True, doc="192.168.150.1/24")
    dhcp: Dhcp | None = xml("dhcp", whole=True, doc="Leases that libvirt's dnsmasq gives out.")

    @model_validator(mode="after")
    def _inside(self) -> Ip:
        network = ipaddress.ip_interface(self.address).network
        dhcp = self.dhcp or Dhcp()
        for ip in [*(h.ip for h in dhcp.hosts), *(ip for r in dhcp.ranges for ip in (r.start, r.end))]:
            if ipaddress.ip_address(ip) not in network:
                raise ValueError(f"{ip} is not in the network {network}")
        for r in dhcp.ranges:
            if int(ipaddress.ip_address(r.start)) > int(ipaddress.ip_address(r.end)):
                raise ValueError(f"the range ends ({r.end}) before it starts ({r.start})")
        return self


class DnsHost(Section):
    ip: IpAddress = xml("@ip", required=True, doc="The address.")
    hostnames: list[str] = xml_list("hostname", required=True, min_length=1, doc="Names that resolve to the address.")


class Dns(Section):
    hosts: list[DnsHost] = xml_list("host", key="ip", whole=True, doc="Names that dnsmasq answers.")


class Domain(Section):
    name: str = xml("@name", required=True, doc="The DNS domain of this network, such as lab.example.")


class Bridge(Section):
    name: str | None = xml("@name", max_length=15, doc="The bridge device on the host.")
    stp: bool | None = xml("@stp", ON_OFF, doc="Spanning tree.")


class Forward(Section):
    mode: Literal["nat", "route", "open", "bridge"] = xml(
        "@mode",
        required=True,
        doc="nat, route, open (routed, without firewall rules), or bridge (an existing host bridge).",
    )
    dev: str | None = xml("@dev", doc="Forward through this host interface only.")


class NetworkSpec(Spec):
    """A virtual network. Without `forward` it is isolated."""

    element: ClassVar[str] = "network"

    active: bool = field(True, effect=Effect.LIVE, doc="Whether the network is started.")
    autostart: bool | None = field(effect=Effect.LIVE, doc="Started when the host boots.")
    forward: Forward | None = xml("forward", whole=True, doc="How guests reach other networks.")
    bridge: Bridge | None = xml("bridge", doc="The bridge device; named by libvirt if not given.")
    mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")
    domain: Domain | None = xml("domain", whole=True, doc="The DNS domain of the network.")
    dns: Dns | None = xml("dns", whole=True, doc="What the network's DNS server answers.")
    ips: list[Ip] = xml_list("ip", key="address", whole=True, doc="The host's addresses on it.")

    def settled(self, node: etree._Element) -> etree._Element:
        for forward in node.iterfind("forward"):
            for nat in forward.findall("nat") if forward.get("mode", "nat") != "nat" else ():
                # how addresses are translated, which other modes do not
                forward.remove(nat)
        for ip in node.iterfind("ip[@netmask]"):
            # said by the remainder: libvirt takes one of both
            ip.attrib.pop("prefix", "")
        return node

    @model_validator(mode="after")
    def _bridge_mode(self) -> NetworkSpec:
        if self.forward and self.forward.mode == "bridge":
            if not (self.bridge and self.bridge.name):
                raise ValueError("forward mode bridge needs bridge.name: an existing bridge of the host")
            if self.ips or self.dns or self.domain:
                raise ValueError("forward mode bridge takes no ips, dns or domain: the host's bridge has its own")
        return self

    def status(self) -> str:
        return "active" if self.active else "inactive"

    def faults(self) -> Iterable[Fault]:
        return rules.faults(self)

    def claims(self) -> Iterator[Claim]:
        if self.bridge and self.bridge.name:
            # two networks may use one bridge of the host's; what one of them makes is its own
            own = self.forward is None or self.forward.mode != "bridge"
            yield Claim(("bridge", "name"), "the bridge" if own else "the host's bridge", self.bridge.name)
        for index, ip in enumerate(self.ips if self.active else ()):
            yield Claim(("ips", index, "address"), "the prefix", ipaddress.ip_interface(ip.address).network)


FORM = Form(NetworkSpec, volatile=("@connections",))
