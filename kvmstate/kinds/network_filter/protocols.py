"""What a rule looks at, by protocol: https://libvirt.org/formatnwfilter.html#supported-protocols

libvirt's schema has more than this: what its driver takes and drops is not a field here.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from kvmstate.kinds.network_filter import values as v
from kvmstate.xmlbind import Scalar, Section, bindings, xml

_YES = Scalar(lambda text: text != "no", lambda value: "yes" if value else "no")
_TRUE = Scalar(lambda text: text in ("true", "yes", "1"), lambda value: "true" if value else "false")
Comment = Annotated[str, Field(max_length=256)]


def number(path: str, **told: Any) -> Any:
    return xml(path, v.NUMBER, same=v.same_number, **told)


class Protocol(Section):
    """Packets of a protocol. All that is said must hold."""

    exact: ClassVar[bool] = True
    # of what `match: false` does not turn around
    unturned: ClassVar[frozenset[str]] = frozenset()
    # of IP, where iptables looks at its packets; empty where ebtables does
    family: ClassVar[str] = ""

    match: bool | None = xml(
        "@match", _YES, same=lambda want, seen: (want is False) == (seen is False), doc="false: what is not so."
    )
    comment: Comment | None = xml("@comment")

    def meaning(self) -> Iterator[tuple[str, object, bool]]:
        """What it looks for: the field, its value, and whether it is turned around."""
        turned = self.match is False
        for b in bindings(type(self)):
            if (value := getattr(self, b.name)) is not None and b.name != "match":
                yield b.name, v.known(value), turned and b.name not in (*self.unturned, "comment")


def same_matches(want: Any, seen: Any) -> bool:
    """libvirt makes one element of several, and several of one: by what is turned around. One that says nothing is for
    all packets of its protocol, and none is not."""
    return bool(want) == bool(seen) and _meaning(want) == _meaning(seen)


def _meaning(said: list[Protocol] | None) -> dict[str, object]:
    return {name: (value, turned) for each in said or () for name, value, turned in each.meaning()}


class _SourceMac(Protocol):
    src_mac_addr: v.MacAddress | None = xml("@srcmacaddr", doc="Of the sender.")


class _Ethernet(_SourceMac):
    src_mac_mask: v.MacAddress | None = xml("@srcmacmask")
    dst_mac_addr: v.MacAddress | None = xml("@dstmacaddr", doc="Of the receiver.")
    dst_mac_mask: v.MacAddress | None = xml("@dstmacmask")


class Mac(_Ethernet):
    """Ethernet frames."""

    protocol_id: v.EtherType | None = number("@protocolid", doc="What is in the frame.")


class Vlan(_Ethernet):
    """Frames with a VLAN tag."""

    vlan_id: v.VlanId | None = number("@vlanid")
    encap_protocol: v.EtherType | None = number("@encap-protocol", doc="What the tagged frame holds.")


def least(path: str) -> Any:
    return number(path, doc="The value, or the least of several.")


class Stp(_SourceMac):
    """The spanning tree's frames. Of each number there may be a range: what ends in Hi is the most."""

    src_mac_mask: v.MacAddress | None = xml("@srcmacmask")
    type: v.Uint8 | None = number("@type")
    flags: v.Uint8 | None = number("@flags")
    root_priority: v.Uint16 | None = least("@root-priority")
    root_priority_hi: v.Uint16 | None = number("@root-priority-hi")
    root_address: v.MacAddress | None = xml("@root-address")
    root_address_mask: v.MacAddress | None = xml("@root-address-mask")
    root_cost: v.Uint32 | None = least("@root-cost")
    root_cost_hi: v.Uint32 | None = number("@root-cost-hi")
    sender_priority: v.Uint16 | None = least("@sender-priority")
    sender_priority_hi: v.Uint16 | None = number("@sender-priority-hi")
    sender_address: v.MacAddress | None = xml("@sender-address")
    sender_address_mask: v.MacAddress | None = xml("@sender-address-mask")
    port: v.Uint16 | None = least("@port")
    port_hi: v.Uint16 | None = number("@port-hi")
    age: v.Uint16 | None = least("@age")
    age_hi: v.Uint16 | None = number("@age-hi")
    max_age: v.Uint16 | None = least("@max-age")
    max_age_hi: v.Uint16 | None = number("@max-age-hi")
    hello_time: v.Uint16 | None = least("@hello-time")
    hello_time_hi: v.Uint16 | None = number("@hello-time-hi")
    forward_delay: v.Uint16 | None = least("@forward-delay")
    forward_delay_hi: v.Uint16 | None = number("@forward-delay-hi")


class Arp(_Ethernet):
    """ARP, and RARP."""

    hw_type: v.Uint16 | None = number("@hwtype")
    protocol_type: v.Uint16 | None = number("@protocoltype")
    opcode: v.Opcode | None = number("@opcode")
    arp_src_mac_addr: v.MacAddress | None = xml("@arpsrcmacaddr", doc="Of the sender, as the packet says it.")
    arp_dst_mac_addr: v.MacAddress | None = xml("@arpdstmacaddr")
    arp_src_ip_addr: v.Ipv4 | None = xml("@arpsrcipaddr")
    arp_src_ip_mask: v.Mask4 | None = number("@arpsrcipmask")
    arp_dst_ip_addr: v.Ipv4 | None = xml("@arpdstipaddr")
    arp_dst_ip_mask: v.Mask4 | None = number("@arpdstipmask")
    gratuitous: bool | None = xml("@gratuitous", _TRUE, doc="Whether it asks for its sender's own address.")


class _Ports(Protocol):
    src_port_start: v.Uint16 | None = number("@srcportstart", doc="Of the sender: the port, or the first of several.")
    src_port_end: v.Uint16 | None = number("@srcportend")
    dst_port_start: v.Uint16 | None = number("@dstportstart", doc="Of the receiver: the port, or the first of several.")
    dst_port_end: v.Uint16 | None = number("@dstportend")


class _Addresses4(Protocol):
    src_ip_addr: v.Ipv4 | None = xml("@srcipaddr", doc="Of the sender.")
    src_ip_mask: v.Mask4 | None = number("@srcipmask", doc="The length of the address's prefix, or a mask.")
    dst_ip_addr: v.Ipv4 | None = xml("@dstipaddr", doc="Of the receiver.")
    dst_ip_mask: v.Mask4 | None = number("@dstipmask")


class _Addresses6(Protocol):
    src_ip_addr: v.Ipv6 | None = xml("@srcipaddr", doc="Of the sender.")
    src_ip_mask: v.Mask6 | None = number("@srcipmask", doc="The length of the address's prefix, or a mask.")
    dst_ip_addr: v.Ipv6 | None = xml("@dstipaddr", doc="Of the receiver.")
    dst_ip_mask: v.Mask6 | None = number("@dstipmask")


class Ip(_Ethernet, _Addresses4, _Ports):
    """IPv4, as Ethernet carries it: without a look at connections."""

    protocol: v.Protocol | None = number("@protocol", doc="What it carries; ports need tcp, udp or sctp.")
    dscp: v.SixBits | None = number("@dscp")


class Ipv6(_Ethernet, _Addresses6, _Ports):
    """IPv6, as Ethernet carries it: without a look at connections."""

    protocol: v.Protocol | None = number("@protocol", doc="What it carries; ports need tcp, udp or sctp.")
    type: v.Uint8 | None = number("@type", doc="Of ICMPv6: the type, or the first of several.")
    type_end: v.Uint8 | None = number("@typeend")
    code: v.Uint8 | None = number("@code")
    code_end: v.Uint8 | None = number("@codeend")


class _Connections(_SourceMac):
    """What iptables looks at, with its view of connections."""

    unturned: ClassVar[frozenset[str]] = frozenset(_Ports.model_fields)

    dscp: v.SixBits | None = number("@dscp")
    connlimit_above: v.Uint16 | None = number("@connlimit-above", doc="Where there are more connections than so many.")
    state: v.States | None = xml("@state", doc="Of the connection: NEW, ESTABLISHED, RELATED, INVALID, or NONE.")


class _From4(_Connections, _Addresses4):
    family: ClassVar[str] = "IPv4"

    src_ip_from: v.Ipv4 | None = xml("@srcipfrom", doc="The first of several.")
    src_ip_to: v.Ipv4 | None = xml("@srcipto")
    dst_ip_from: v.Ipv4 | None = xml("@dstipfrom")
    dst_ip_to: v.Ipv4 | None = xml("@dstipto")


class _From6(_Connections, _Addresses6):
    family: ClassVar[str] = "IPv6"

    src_ip_from: v.Ipv6 | None = xml("@srcipfrom", doc="The first of several.")
    src_ip_to: v.Ipv6 | None = xml("@srcipto")
    dst_ip_from: v.Ipv6 | None = xml("@dstipfrom")
    # libvirt 9.0 to 11.3 take it for an address of IPv4 otherwise
    dst_ip_to: v.Variable | None = xml("@dstipto", doc="A variable; libvirt refuses an IPv6 address here.")


class _IpSets(Protocol):
    ipset: v.IpSet | None = xml("@ipset", doc="A set of ipset(8), made by others.")
    ipset_flags: v.IpSetFlags | None = xml(
        "@ipsetflags", doc="What of a packet is in it: src, dst, or several of them."
    )


class _Icmp(Protocol):
    type: v.Uint8 | None = number("@type")
    code: v.Uint8 | None = number("@code")


class All(_From4, _IpSets):
    """IPv4 of any protocol."""


class AllIpv6(_From6, _IpSets):
    """IPv6 of any protocol."""


class Portless(_From4):
    """A protocol over IPv4 without ports: udplite, igmp, esp or ah."""


class PortlessIpv6(_From6):
    """A protocol over IPv6 without ports: udplite, esp or ah."""


class Ported(_From4, _Ports):
    """UDP or SCTP over IPv4."""


class PortedIpv6(_From6, _Ports):
    """TCP, UDP or SCTP over IPv6."""


class Tcp(_From4, _Ports):
    """TCP over IPv4."""

    flags: v.TcpFlags | None = xml("@flags", doc="Those that are looked at, and those that are set: SYN,ACK/SYN.")


class Icmp(_From4, _Icmp):
    """ICMP."""


class Icmpv6(_From6, _Icmp):
    """ICMP of IPv6."""
