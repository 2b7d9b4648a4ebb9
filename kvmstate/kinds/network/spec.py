"""Network: https://libvirt.org/formatnetwork.html"""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Claim, Fault, Form, Spec, identity
from kvmstate.kinds.network import Bandwidth, Dns, Domain, Forward, Forwarded, PortGroup, VirtualPort, Vlan, rules
from kvmstate.kinds.network.addresses import Ip, Route
from kvmstate.kinds.network.rules import ROUTED
from kvmstate.model.address import Mac
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, YES_NO, same_case, same_flag
from kvmstate.xmlbind.path import parse_path


class Bridge(Section):
    name: str | None = xml("@name", max_length=15, ref="interface", doc="The bridge device on the host.")
    stp: bool | None = xml("@stp", ON_OFF, doc="Spanning tree.")
    delay: int | None = xml("@delay", ge=0, doc="Seconds until a new port forwards, with the spanning tree.")
    mac_table_manager: Literal["kernel", "libvirt"] | None = xml(
        "@macTableManager", doc="Who knows which guest is at which port. Default: kernel."
    )
    zone: str | None = xml("@zone", doc="That of firewalld which the bridge is in. Default: libvirt's own.")


class NetworkSpec(Spec):
    """A virtual network. Without `forward` it is isolated."""

    element: ClassVar[str] = "network"

    title: str | None = xml(
        "title", pattern=r"^[^\n]+$", effect=Effect.NONE, doc="A few words for people. libvirt has it from 9.7 on."
    )
    description: str | None = xml("description", effect=Effect.NONE, doc="For people. libvirt has it from 9.7 on.")
    active: bool = field(True, effect=Effect.LIVE, doc="Whether the network is started.")
    autostart: bool | None = field(effect=Effect.LIVE, doc="Started when the host boots.")
    uuid: str | None = identity()
    ipv6: bool | None = xml(
        "@ipv6", YES_NO, doc="Whether guests reach each other by IPv6 where the host has no address of it."
    )
    trust_guest_rx_filters: bool | None = xml(
        "@trustGuestRxFilters", YES_NO, doc="Whether guests' changes of MAC address and filters hold on the host."
    )
    forward: Forward | None = xml("forward", whole=True, doc="How guests reach other networks.")
    bridge: Bridge | None = xml("bridge", doc="The bridge device; named by libvirt if not given.")
    mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")
    mac: Mac | None = xml("mac/@address", same=same_case, lasting=True, doc="The bridge's. Default: libvirt chooses.")
    domain: Domain | None = xml("domain", whole=True, doc="The DNS domain of the network.")
    dns: Dns | None = xml("dns", whole=True, by_parts=True, doc="What the network's DNS server answers.")
    ips: list[Ip] = xml_list("ip", key="address", whole=True, doc="The host's addresses on it.")
    routes: list[Route] = xml_list("route", key="to", whole=True, doc="To networks behind guests.")
    bandwidth: Bandwidth | None = xml("bandwidth", whole=True, doc="Of all its guests together.")
    vlan: Vlan | None = xml("vlan", whole=True, doc="Of all its guests; Open vSwitch, macvtap and hostdev have them.")
    virtual_port: VirtualPort | None = xml("virtualport", whole=True, doc="How a switch knows its guests' ports.")
    isolated: bool | None = xml(
        "port/@isolated", same=same_flag, doc="Whether its guests do not reach each other. Of modes with a bridge."
    )
    port_groups: list[PortGroup] = xml_list(
        "portgroup", key="name", whole=True, effect=Effect.LIVE, throughout=True, doc="What interfaces may name."
    )
    port_forwards: list[Forwarded] = xml_list(
        "metadata/port-forwards:forwards/port-forwards:forward",
        key="host",
        whole=True,
        effect=Effect.NONE,
        doc="Ports of the host that lead to machines, of mode nat. `kvmstate host forwards` opens them on the host.",
    )
    dnsmasq_options: list[str] = xml_list(
        "dnsmasq:options/dnsmasq:option/@value", doc="Lines for dnsmasq's own configuration. At your own risk."
    )

    def settled(self, node: etree._Element) -> etree._Element:
        for forward in node.iterfind("forward"):
            mode = forward.get("mode", "nat")
            for nat in forward.findall("nat") if mode != "nat" else ():
                # how addresses are translated, which other modes do not
                forward.remove(nat)
            for path in ("bridge/@stp", "bridge/@delay", "mac/@address") if mode not in ROUTED else ():
                # what libvirt has added to a bridge of its own, and refuses of the host's
                parse_path(path).remove(node)
            if self.forward and self.forward.interfaces and not self.forward.dev:
                # libvirt says the first of them here as well
                forward.attrib.pop("dev", "")
        for each in (*node.iterfind("ip[@netmask]"), *node.iterfind("route[@netmask]")):
            # said by the remainder: libvirt takes one of both
            each.attrib.pop("prefix", "")
        return node

    @model_validator(mode="after")
    def _bridge_mode(self) -> Self:
        forward = self.forward
        if forward and forward.mode not in ROUTED:
            devices = forward.dev or forward.interfaces or forward.pf or forward.addresses
            if forward.mode == "bridge" and not devices and not (self.bridge and self.bridge.name):
                raise ValueError("forward mode bridge needs bridge.name: an existing bridge of the host")
            if self.ips or self.dns or self.domain:
                raise ValueError(
                    f"forward mode {forward.mode} takes no ips, dns or domain: the host's bridge or card has its own"
                )
        return self

    def status(self) -> str:
        return "active" if self.active else "inactive"

    def faults(self) -> Iterable[Fault]:
        return rules.faults(self)

    def refuses(self, other: Spec, path: tuple[str | int, ...]) -> Fault | None:
        return rules.refused(self, other, path)

    def claims(self) -> Iterator[Claim]:
        if self.bridge and self.bridge.name:
            # two networks may use one bridge of the host's; what one of them makes is its own
            own = self.forward is None or self.forward.mode in ROUTED
            yield Claim(("bridge", "name"), "the bridge" if own else "the host's bridge", self.bridge.name)
        for index, ip in enumerate(self.ips if self.active else ()):
            yield Claim(("ips", index, "address"), "the prefix", ipaddress.ip_interface(ip.address).network)


FORM = Form(NetworkSpec, volatile=("@connections",))
