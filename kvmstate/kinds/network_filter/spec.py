"""NetworkFilter: https://libvirt.org/formatnwfilter.html"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Tag, model_validator

from kvmstate.kind import Fault, Form, Spec, identity
from kvmstate.kind.filterref import UNWRITABLE, FilterRef
from kvmstate.kinds.network_filter import protocols as p
from kvmstate.kinds.network_filter import rules
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Scalar, Section, bindings, xml, xml_list

# Those that libvirt brings along (src/nwfilter/xml), and makes again where they are missing
GIVEN = frozenset(
    (
        *("allow-arp", "allow-dhcp", "allow-dhcp-server", "allow-dhcpv6", "allow-dhcpv6-server", "allow-incoming-ipv4"),
        *("allow-incoming-ipv6", "allow-ipv4", "allow-ipv6", "clean-traffic", "clean-traffic-gateway"),
        *("no-arp-ip-spoofing", "no-arp-mac-spoofing", "no-arp-spoofing", "no-ip-multicast", "no-ip-spoofing"),
        *("no-ipv6-multicast", "no-ipv6-spoofing", "no-mac-broadcast", "no-mac-spoofing", "no-other-l2-traffic"),
        *("no-other-rarp-traffic", "qemu-announce-self", "qemu-announce-self-rarp"),
    )
)
_UNLESS_FALSE = Scalar(lambda text: text not in ("false", "0"), lambda value: "true" if value else "false")


def protocol(tag: str) -> Any:
    """Declare a protocol that a rule may be of: one element, or several that hold together."""
    return xml_list(tag, one_or_more=True, same=p.same_matches)


class Other(FilterRef):
    """Another filter, whose rules hold here as well."""

    xml_tag: ClassVar[str] = "filterref"
    exact: ClassVar[bool] = True


class Rule(Section):
    """What happens to a packet. Without a protocol it is for every packet."""

    xml_tag: ClassVar[str] = "rule"
    exact: ClassVar[bool] = True

    action: Literal["drop", "reject", "accept", "return", "continue"] = xml(
        "@action", required=True, doc="return goes on behind this filter, continue with its next rule."
    )
    direction: Literal["in", "out", "inout"] = xml("@direction", required=True, doc="As the guest sees it.")
    priority: int = xml("@priority", default=500, ge=-1000, le=1000, doc="Rules with smaller ones come first.")
    state_match: bool | None = xml(
        "@statematch",
        _UNLESS_FALSE,
        same=lambda want, seen: (want is False) == (seen is False),
        doc="Whether it is for new and known connections only, as iptables knows them. Default: true.",
    )
    mac: list[p.Mac] = protocol("mac")
    vlan: list[p.Vlan] = protocol("vlan")
    stp: list[p.Stp] = protocol("stp")
    arp: list[p.Arp] = protocol("arp")
    rarp: list[p.Arp] = protocol("rarp")
    ip: list[p.Ip] = protocol("ip")
    ipv6: list[p.Ipv6] = protocol("ipv6")
    all: list[p.All] = protocol("all")
    tcp: list[p.Tcp] = protocol("tcp")
    udp: list[p.Ported] = protocol("udp")
    sctp: list[p.Ported] = protocol("sctp")
    icmp: list[p.Icmp] = protocol("icmp")
    udplite: list[p.Portless] = protocol("udplite")
    igmp: list[p.Portless] = protocol("igmp")
    esp: list[p.Portless] = protocol("esp")
    ah: list[p.Portless] = protocol("ah")
    all_ipv6: list[p.AllIpv6] = protocol("all-ipv6")
    tcp_ipv6: list[p.PortedIpv6] = protocol("tcp-ipv6")
    udp_ipv6: list[p.PortedIpv6] = protocol("udp-ipv6")
    sctp_ipv6: list[p.PortedIpv6] = protocol("sctp-ipv6")
    icmpv6: list[p.Icmpv6] = protocol("icmpv6")
    udplite_ipv6: list[p.PortlessIpv6] = protocol("udplite-ipv6")
    esp_ipv6: list[p.PortlessIpv6] = protocol("esp-ipv6")
    ah_ipv6: list[p.PortlessIpv6] = protocol("ah-ipv6")

    @property
    def protocols(self) -> dict[str, list[p.Protocol]]:
        """The protocols that it has, by manifest spelling."""
        return {b.alias: said for b in bindings(type(self)) if b.sections and (said := getattr(self, b.name))}

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(said := [*self.protocols]) > 1:
            raise ValueError(f"a rule has one protocol, and this one has {' and '.join(said)}")
        return self


def _which(value: object) -> str:
    refers = isinstance(value, Other) or (isinstance(value, dict) and "filter" in value)
    return "<filterref>" if refers else "<rule>"


# tags that are not fields: messages name the place without them
Item = Annotated[Annotated[Rule, Tag("<rule>")] | Annotated[Other, Tag("<filterref>")], Discriminator(_which)]


class NetworkFilterSpec(Spec):
    """Which packets guests may send and receive, for the interfaces that refer to it."""

    element: ClassVar[str] = "filter"
    named: ClassVar[str] = "@name"

    uuid: str | None = identity()
    chain: str = xml(
        "@chain",
        default="root",
        effect=Effect.LIVE,
        pattern="^(root|(mac|vlan|stp|arp|rarp|ipv4|ipv6)[a-zA-Z0-9_.:-]*)$",
        max_length=12,
        doc="root, or mac, vlan, stp, arp, rarp, ipv4, ipv6, or a name that begins so: ebtables' table of its rules.",
    )
    priority: int | None = xml(
        "@priority", effect=Effect.LIVE, ge=-1000, le=1000, doc="Chains with smaller ones come first."
    )
    rules: list[Item] = xml_list(
        "rule", effect=Effect.LIVE, whole=True, doc="Rules, and other filters (filter: NAME), in their order."
    )

    @property
    def families(self) -> set[str]:
        """IPv4 and IPv6, where iptables looks at their packets for it."""
        said = (
            each for rule in self.rules if isinstance(rule, Rule) for many in rule.protocols.values() for each in many
        )
        return {each.family for each in said if each.family}

    def variables(self) -> frozenset[str]:
        return frozenset(rules.variables([rule.protocols for rule in self.rules if isinstance(rule, Rule)]))

    def faults(self) -> Iterable[Fault]:
        return rules.faults(self)


FORM = Form(NetworkFilterSpec, given=GIVEN, unwritable=UNWRITABLE)
