"""How a network's guests reach others: https://libvirt.org/formatnetwork.html#connectivity"""

import re
from typing import Annotated, Literal

from lxml import etree
from pydantic import Field

from kvmstate.model.address import IpAddress
from kvmstate.model.effect import Effect
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import YES_NO

PciAddress = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]$")]


def _read_pci(node: etree._Element, lookup: Lookup) -> str:
    domain, bus, slot, function = (int(node.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _write_pci(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    parts = re.split("[:.]", value or "")
    node.set("type", "pci")
    for name, part in zip(("domain", "bus", "slot", "function"), parts, strict=True):
        node.set(name, f"0x{part}")


class Addresses(Section):
    start: IpAddress = xml("@start", required=True, doc="The first address.")
    end: IpAddress = xml("@end", required=True, doc="The last address.")


class Ports(Section):
    start: int = xml("@start", required=True, ge=1, le=65535, doc="The first port.")
    end: int = xml("@end", required=True, ge=1, le=65535, doc="The last port.")


class Nat(Section):
    """What guests' addresses become. Of what is left out, libvirt chooses."""

    address: Addresses | None = xml("address", whole=True, doc="Addresses of the host. Default: that of the way out.")
    port: Ports | None = xml("port", whole=True, lasting=True, doc="Default: 1024 to 65535.")
    ipv6: bool | None = xml("@ipv6", YES_NO, doc="Whether IPv6 is translated as well. Default: it is routed.")


class Interface(Section):
    dev: str = xml("@dev", required=True, ref="interface", doc="A device of the host.")


class Forward(Section):
    mode: Literal["nat", "route", "open", "bridge", "private", "vepa", "passthrough", "hostdev"] = xml(
        "@mode",
        required=True,
        doc="nat, route, open (routed, without firewall rules); bridge (an existing host bridge, or macvtap over "
        "interfaces); private, vepa, passthrough (macvtap); hostdev (virtual functions of a network card).",
    )
    dev: str | None = xml("@dev", ref="interface", doc="Forward through this host interface only.")
    nat: Nat | None = xml("nat", whole=True, doc="Of mode nat: to which addresses and ports.")
    interfaces: list[Interface] = xml_list(
        "interface", key="dev", whole=True, effect=Effect.LIVE, doc="The pool that guests get one of, of macvtap modes."
    )
    pf: str | None = xml("pf/@dev", doc="The physical function whose virtual ones guests get.")
    addresses: list[PciAddress] = xml_list(
        "address", Element(_read_pci, _write_pci), whole=True, doc="Virtual functions: 0000:03:10.0"
    )
    managed: bool | None = xml("@managed", YES_NO, doc="Of mode hostdev: whether libvirt gives devices to guests.")
    driver: Literal["vfio", "kvm", "xen"] | None = xml("driver/@name", doc="Of mode hostdev.")
