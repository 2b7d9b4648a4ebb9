"""Network: https://libvirt.org/formatnetwork.html"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from lxml import etree
from pydantic import Field, model_validator

from kvmstate.kind import Claim, Fault, Spec
from kvmstate.kinds.network import rules
from kvmstate.model.address import IpAddress, IpInterface, Mac
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Element, Keyed, Section, Xml
from kvmstate.xmlbind.codecs import ON_OFF, same_case


def _read_ip(node: etree._Element, lookup: Any) -> str | None:
    address = node.get("address")
    if address is None:
        return None
    prefix = node.get("prefix") or node.get("netmask") or ("64" if ":" in address else _classful(address))
    return ipaddress.ip_interface(f"{address}/{prefix}").with_prefixlen


def _classful(address: str) -> str:
    """libvirt's default prefix when neither prefix nor netmask is given is the address class's."""
    first = int(address.split(".")[0])
    return "8" if first < 128 else "16" if first < 192 else "24"


def _write_ip(node: etree._Element, value: str | None, lookup: Any) -> None:
    if value is None:
        return
    interface = ipaddress.ip_interface(value)
    node.attrib.pop("netmask", "")
    node.set("family", f"ipv{interface.version}")
    node.set("address", str(interface.ip))
    node.set("prefix", str(interface.network.prefixlen))


class DhcpRange(Section):
    start: Annotated[IpAddress, Xml("@start")]
    end: Annotated[IpAddress, Xml("@end")]


class DhcpHost(Section):
    """One fixed lease."""

    ip: Annotated[IpAddress, Xml("@ip")]
    mac: Annotated[Mac | None, Xml("@mac", same=same_case), Effect.LIVE] = None
    name: Annotated[str | None, Xml("@name"), Effect.LIVE] = None


class Dhcp(Section):
    ranges: Annotated[list[DhcpRange], Xml("range", whole=True), Field(description="Addresses to lease.")] = []
    hosts: Annotated[
        list[DhcpHost], Xml("host", whole=True), Keyed("ip"), Effect.LIVE, Field(description="Fixed leases.")
    ] = []


class Ip(Section):
    """An address of the host on this network, with the network's prefix length."""

    address: Annotated[IpInterface, Xml(".", Element(_read_ip, _write_ip)), Field(description="192.168.150.1/24")]
    dhcp: Annotated[
        Dhcp | None, Xml("dhcp", whole=True), Field(description="Leases that libvirt's dnsmasq gives out.")
    ] = None

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
    ip: Annotated[IpAddress, Xml("@ip")]
    hostnames: Annotated[list[str], Xml("hostname"), Field(min_length=1)]


class Dns(Section):
    hosts: Annotated[
        list[DnsHost], Xml("host", whole=True), Keyed("ip"), Field(description="Names that dnsmasq answers.")
    ] = []


class Domain(Section):
    name: Annotated[str, Xml("@name"), Field(description="The DNS domain of this network, such as lab.example.")]


class Bridge(Section):
    name: Annotated[str | None, Xml("@name"), Field(max_length=15, description="The bridge device on the host.")] = None
    stp: Annotated[bool | None, Xml("@stp", ON_OFF), Field(description="Spanning tree.")] = None


class Forward(Section):
    mode: Annotated[
        Literal["nat", "route", "open", "bridge"],
        Xml("@mode"),
        Field(description="nat, route, open (routed, without firewall rules), or bridge (an existing host bridge)."),
    ]
    dev: Annotated[str | None, Xml("@dev"), Field(description="Forward through this host interface only.")] = None


class NetworkSpec(Spec):
    """A virtual network. Without `forward` it is isolated."""

    element: ClassVar[str] = "network"

    active: Annotated[bool, Effect.LIVE, Field(description="Whether the network is started.")] = True
    autostart: Annotated[bool | None, Effect.LIVE, Field(description="Started when the host boots.")] = None
    forward: Annotated[
        Forward | None, Xml("forward", whole=True), Field(description="How guests reach other networks.")
    ] = None
    bridge: Annotated[
        Bridge | None, Xml("bridge"), Field(description="The bridge device; named by libvirt if not given.")
    ] = None
    mtu: Annotated[int | None, Xml("mtu/@size"), Field(ge=68, le=65535, description="In bytes.")] = None
    domain: Annotated[Domain | None, Xml("domain", whole=True)] = None
    dns: Annotated[Dns | None, Xml("dns", whole=True)] = None
    ips: Annotated[
        list[Ip], Xml("ip", whole=True), Keyed("address"), Field(description="The host's addresses on it.")
    ] = []

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

    def faults(self) -> Iterable[Fault]:
        return rules.faults(self)

    def claims(self) -> Iterator[Claim]:
        if self.bridge and self.bridge.name:
            # two networks may use one bridge of the host's; what one of them makes is its own
            own = self.forward is None or self.forward.mode != "bridge"
            yield Claim(("bridge", "name"), "the bridge" if own else "the host's bridge", self.bridge.name)
        for index, ip in enumerate(self.ips if self.active else ()):
            yield Claim(("ips", index, "address"), "the prefix", ipaddress.ip_interface(ip.address).network)
