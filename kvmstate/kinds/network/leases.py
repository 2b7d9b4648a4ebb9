"""What a network's dnsmasq gives out: https://libvirt.org/formatnetwork.html#addressing"""

from typing import Annotated, Any, ClassVar, Literal

from lxml import etree
from pydantic import Field, PlainSerializer

from kvmstate.model.address import IpAddress, Mac
from kvmstate.model.effect import Effect
from kvmstate.model.quantity import Duration
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import same_case

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}


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


# dnsmasq takes none that is shorter
Lease = Annotated[Literal["infinite"] | Annotated[Duration, Field(ge=120)], PlainSerializer(_said_lease)]


def lease(**told: Any) -> Any:
    doc = "How long a guest may have an address, from 2m on; or infinite. Default: 1h."
    return xml("lease", Element(_read_lease, _write_lease), doc=doc, **told)


class DhcpRange(Section):
    # libvirt puts what is added while the network runs behind all others
    ordered: ClassVar[bool] = False
    # nothing tells which one was before what is there
    exact: ClassVar[bool] = True

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
