"""Screens: https://libvirt.org/formatdomain.html#graphical-framebuffers"""

from typing import Literal

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.address import IpAddress
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml


def _read_port(node: etree._Element, lookup: Lookup) -> int | None:
    return int(node.get("port", "-1")) if node.get("autoport") != "yes" else None


def _write_port(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    node.set("autoport", "no" if value else "yes")
    node.set("port", str(value or -1))


def _read_listen(node: etree._Element, lookup: Lookup) -> str | None:
    said, again = node.get("listen"), node.find("listen")
    return said if again is not None and again.get("address") == said else None


def _write_listen(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    node.attrib.pop("listen", "")
    # libvirt says it twice, and refuses two that differ
    for again in node.findall("listen"):
        node.remove(again)
    if value:
        node.set("listen", value)
        etree.SubElement(node, "listen", type="address", address=value)


PORT = Element(_read_port, _write_port)
LISTEN = Element(_read_listen, _write_listen)


class Graphics(Device):
    tag = "graphics"
    key = "type"
    only = {"type": ("vnc", "spice")}
    made_with = {"@autoport": "yes"}
    volatile = ("self::*[@autoport='yes']/@port", "self::*[@autoport='yes']/@tlsPort", "@websocket")

    type: Literal["vnc", "spice"] = xml("@type", required=True, doc="The protocol.")
    listen: IpAddress | None = xml(".", LISTEN, doc="The host's address to listen on. Default: 127.0.0.1.")
    port: int | None = xml(".", PORT, ge=5900, le=65535, doc="Default: the first that is free.")
