"""HostInterface: https://libvirt.org/formatinterface.html"""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Claim, Fault, Form, Spec
from kvmstate.model.address import IpAddress, IpInterface, Mac
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Scalar, Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, YES_NO, present, same_case, same_flag

# IFNAMSIZ of Linux, without the byte that ends it
LONGEST = 15
NAME = r"^[^\s/:]+$"
Path = tuple[str | int, ...]
_SECONDS = Scalar(float, lambda value: f"{value:g}")
_PARTS = {"bridge": "bridge", "vlan": "vlan", "bond": "bond"}


def _read_ip(node: etree._Element, lookup: Lookup) -> str | None:
    address = node.get("address")
    whole = 128 if address and ":" in address else 32
    return ipaddress.ip_interface(f"{address}/{node.get('prefix') or whole}").with_prefixlen if address else None


def _write_ip(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value is not None:
        address, _, prefix = value.partition("/")
        node.set("address", address)
        node.set("prefix", prefix)


_ADDRESS = Element(_read_ip, _write_ip)


def _same_number(want: object, seen: object) -> bool:
    """What is not said is 0."""
    return (want or 0) == (seen or 0)


class Dhcp(Section):
    bare: ClassVar[bool] = True

    peer_dns: bool | None = xml("@peerdns", YES_NO, doc="Whether the host asks the DNS servers that DHCP tells.")


class Ipv4(Section):
    dhcp: Dhcp | None = xml("dhcp", doc="An address from a DHCP server.")
    addresses: list[IpInterface] = xml_list("ip", _ADDRESS, doc="With their prefix lengths, such as 192.0.2.10/24.")
    gateway: IpAddress | None = xml("route/@gateway", doc="Where all goes that no other route is for.")

    @model_validator(mode="after")
    def _family(self) -> Self:
        version = 6 if isinstance(self, Ipv6) else 4
        for each in (*self.addresses, *filter(None, [self.gateway])):
            if ipaddress.ip_interface(each).version != version:
                raise ValueError(f"{each} is not an address of IPv{version}")
        return self


class Ipv6(Ipv4):
    autoconf: bool | None = xml(
        ".", present("autoconf"), same=same_flag, doc="An address made of what routers advertise (SLAAC)."
    )


class Vlan(Section):
    tag: int = xml("@tag", required=True, ge=1, le=4094, doc="The VLAN's number.")
    interface: str = xml(
        "interface/@name", required=True, ref="interface", pattern=NAME, doc="The card, bond or bridge that it is on."
    )


class Miimon(Section):
    freq: int = xml("@freq", required=True, ge=1, doc="Milliseconds between two looks at the link.")
    up_delay: int | None = xml(
        "@updelay", same=_same_number, ge=0, doc="Milliseconds until a link that is back is used."
    )
    down_delay: int | None = xml(
        "@downdelay", same=_same_number, ge=0, doc="Milliseconds until a link that is lost is given up."
    )
    carrier: Literal["ioctl", "netif"] | None = xml("@carrier", doc="How a link is looked at.")


class Arpmon(Section):
    interval: int = xml("@interval", required=True, ge=1, doc="Milliseconds between two ARP requests.")
    target: IpAddress = xml("@target", required=True, doc="Who is asked.")
    validate_: Literal["none", "active", "backup", "all"] | None = xml(
        "@validate", doc="Of which ports answers are checked."
    )


class BondPort(Section):
    made_with: ClassVar = {"@type": "ethernet"}

    name: str = xml("@name", required=True, ref="interface", pattern=NAME, max_length=LONGEST, doc="A card.")


class Bond(Section):
    """A bond looks at its ports' links by `miimon` or by `arpmon`."""

    mode: (
        Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]
        | None
    ) = xml("@mode", doc="How traffic is shared out. 802.3ad is LACP.")
    miimon: Miimon | None = xml("miimon", doc="Looks at the links of its ports.")
    arpmon: Arpmon | None = xml("arpmon", doc="Asks others by ARP.")
    ports: list[BondPort] = xml_list("interface", key="name", doc="The cards that are one.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.miimon and self.arpmon:
            raise ValueError("a bond looks at its links by miimon or by arpmon, not by both")
        return self


class Port(Section):
    """A card, or a bond or VLAN that is there for the bridge alone, and has no address of its own."""

    made_with: ClassVar = {"@type": "ethernet"}

    name: str = xml("@name", required=True, ref="interface", pattern=NAME, max_length=LONGEST, doc="The port.")
    type: Literal["ethernet", "bond", "vlan"] | None = xml(
        "@type", doc="What it is. Default: a card, or an interface that is there."
    )
    bond: Bond | None = xml("bond", doc="Of type bond.")
    vlan: Vlan | None = xml("vlan", doc="Of type vlan.")


class Bridge(Section):
    stp: bool | None = xml("@stp", ON_OFF, doc="Spanning tree.")
    delay: float | None = xml("@delay", _SECONDS, ge=0, doc="Seconds until a new port forwards.")
    ports: list[Port] = xml_list("interface", key="name", doc="The devices that are on it.")


class HostInterfaceSpec(Spec):
    """A bridge, VLAN or bond of the host, or one of its cards. What changes while it is up takes it down for a moment:
    lifecycle.restart: now allows that. All of a change is taken back when a part of it fails, or the host is not
    reached any more."""

    element: ClassVar[str] = "interface"
    named: ClassVar[str] = "@name"

    type: Literal["bridge", "bond", "vlan", "ethernet"] = xml(
        "@type", required=True, effect=Effect.REPLACE, doc="ethernet is a card that is there."
    )
    active: bool = field(True, effect=Effect.LIVE, doc="Whether it is up.")
    start: Literal["onboot", "hotplug", "none"] | None = xml(
        "start/@mode", lasting=True, effect=Effect.LIVE, doc="When the host brings it up by itself."
    )
    mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")
    mac: Mac | None = xml(
        "mac/@address", same=same_case, lasting=True, doc="Of other types than ethernet libvirt's own driver drops it."
    )
    ipv4: Ipv4 | None = xml("protocol[@family='ipv4']", doc="Addresses of IPv4.")
    ipv6: Ipv6 | None = xml("protocol[@family='ipv6']", doc="Addresses of IPv6.")
    bridge: Bridge | None = xml("bridge", doc="Of type bridge.")
    vlan: Vlan | None = xml("vlan", doc="Of type vlan.")
    bond: Bond | None = xml("bond", doc="Of type bond.")

    def status(self) -> str:
        return "active" if self.active else "inactive"

    @property
    def ports(self) -> list[str]:
        """The devices that are taken for it, those of its ports included."""
        return [name for _, name, _ in self._taken()]

    def _taken(self) -> Iterator[tuple[Path, str, Port | BondPort]]:
        """Where each port is written, what it is called, and what is said of it."""
        yield from _ports(("bridge",), self.bridge)
        yield from _ports(("bond",), self.bond)

    def claims(self) -> Iterator[Claim]:
        vlans: list[tuple[Path, Vlan | None]] = [(("vlan",), self.vlan)]
        for path, name, port in self._taken():
            yield Claim((*path, "name"), "the port", name)
            vlans.append(((*path, "vlan"), port.vlan if isinstance(port, Port) else None))
        for path, vlan in vlans:
            if vlan:
                yield Claim((*path, "tag"), "the VLAN", f"{vlan.interface}.{vlan.tag}")
        for family in ("ipv4", "ipv6"):
            for index, each in enumerate(getattr(getattr(self, family), "addresses", ())):
                yield Claim((family, "addresses", index), "the address", str(ipaddress.ip_interface(each).ip))

    def faults(self) -> Iterable[Fault]:
        yield from _misplaced(self, (), self.type)
        seen: dict[str, Path] = {}
        for path, name, _ in self._taken():
            # of one list the key tells
            if seen.setdefault(name, path)[:-1] != path[:-1]:
                yield Fault((*path, "name"), f"{name} is a port of this interface already", "name it once")
        for family in ("ipv4", "ipv6") if self.remainder is None else ():
            yield from _unreached(family, getattr(self, family))
        for index, port in enumerate(self.bridge.ports if self.bridge else ()):
            yield from _misplaced(port, ("bridge", "ports", index), port.type or "ethernet")


def _ports(at: Path, of: Bridge | Bond | None) -> Iterator[tuple[Path, str, Port | BondPort]]:
    ports: list[Port | BondPort] = [*of.ports] if of else []
    for index, port in enumerate(ports):
        path = (*at, "ports", index)
        yield path, port.name, port
        if isinstance(port, Port):
            yield from _ports((*path, "bond"), port.bond)


def _misplaced(said: HostInterfaceSpec | Port, at: tuple[str | int, ...], type_: str) -> Iterator[Fault]:
    for name in ("bridge", "vlan", "bond"):
        there = getattr(said, name, None)
        if there and name != type_:
            yield Fault((*at, name), f"it is of type {type_}, which has no {name}", beside=(*at, "type"))
        if name == type_ and not there and not (name == "bridge" or said_by_remainder(said)):
            yield Fault((*at, "type"), f"one of type {type_} says {name}")


def _unreached(family: str, said: Ipv4 | None) -> Iterator[Fault]:
    if said is None or said.dhcp or not said.gateway or not said.addresses:
        return
    if not any(ipaddress.ip_address(said.gateway) in ipaddress.ip_interface(each).network for each in said.addresses):
        why = f"{said.gateway} is in no prefix of this interface"
        yield Fault((family, "gateway"), why, "name one that its addresses reach")


def said_by_remainder(said: object) -> bool:
    return bool(getattr(said, "remainder", None))


def _is_bridge(spec: HostInterfaceSpec) -> str:
    return "the host's bridge" if spec.type == "bridge" else ""


FORM = Form(
    HostInterfaceSpec,
    given=frozenset({"lo"}),
    names=(
        rf"[^\s/:]{{1,{LONGEST}}}",
        f"up to {LONGEST} characters, without space, / and :",
    ),
    named=_is_bridge,
)
