"""Consoles: https://libvirt.org/formatdomain.html#console"""

from typing import Literal

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.path import parse_path


class Console(CharDevice):
    """A console that is not a serial port, such as virtio's."""

    tag = "console"
    key = ""

    type: Type = xml("@type", default="pty")
    target: Literal["virtio", "xen", "lxc", "uml", "openvz", "sclp", "sclplm"] = xml("target/@type", default="virtio")
    port: int | None = xml(
        "target/@port",
        # each version of libvirt numbers them its own way, and the guest does not see that
        same=lambda want, seen: want is not None and seen is not None,
        ge=0,
        lasting=True,
    )

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        # libvirt shows the first serial port once more as a console
        return parse_path("target/@type").text(node) not in (None, "serial")
