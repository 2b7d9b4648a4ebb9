"""Addresses in a guest's own network that lead to the host: https://libvirt.org/formatdomain.html#channel"""

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml
from kvmstate.xmlbind.path import parse_path


def _read(target: etree._Element, lookup: Lookup) -> str | None:
    address, port = target.get("address"), target.get("port")
    return f"{address}:{port}" if address and port and target.get("type") == "guestfwd" else None


def _write(target: etree._Element, value: str | None, lookup: Lookup) -> None:
    for name in ("address", "port"):
        target.attrib.pop(name, "")
    if value is not None:
        address, _, port = value.rpartition(":")
        target.set("type", "guestfwd")
        target.set("address", address)
        target.set("port", port)


class GuestForward(CharDevice):
    """An address in the network that QEMU makes for its guest (interfaces of type user): who connects to it reaches
    the host."""

    tag = "channel"
    key = "to"

    to: str = xml(
        "target",
        Element(_read, _write),
        required=True,
        pattern=r"^[0-9.]+:[0-9]{1,5}$",
        doc="The address and the port that the guest connects to, such as 10.0.2.1:4600.",
    )
    type: Type = xml("@type", default="unix", doc="What is at the host's end.")

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        return parse_path("target/@type").text(node) == "guestfwd"
