"""Keyboards, mice and tablets: https://libvirt.org/formatdomain.html#input-devices"""

from typing import Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kinds.virtual_machine.devices.base import Device, placing
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml
from kvmstate.xmlbind.codecs import ON_OFF


def _attribute(node: etree._Element) -> str:
    return "dev" if node.get("type") == "evdev" else "evdev"


def _read_device(node: etree._Element, lookup: Lookup) -> str | None:
    source = node.find("source")
    return source.get(_attribute(node)) if source is not None else None


def _write_device(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    source = node.find("source")
    if source is None and value is not None:
        source = etree.SubElement(node, "source")
    if source is not None:
        for name in ("dev", "evdev"):
            source.attrib.pop(name, "")
        if value is not None:
            source.set(_attribute(node), value)
        elif not source.attrib:
            node.remove(source)


class Input(Device):
    """A keyboard, a mouse or a tablet. Those on the bus ps2 are libvirt's own."""

    tag = "input"
    key = ""

    type: Literal["mouse", "tablet", "keyboard", "passthrough", "evdev"] = xml("@type", required=True)
    bus: Literal["usb", "virtio", "xen", "ps2"] | None = xml(
        "@bus", placing("bus"), lasting=True, doc="Default: libvirt's choice."
    )
    model: Literal["virtio", "virtio-transitional", "virtio-non-transitional"] | None = xml("@model", lasting=True)
    device: str | None = xml(
        ".", Element(_read_device, _write_device), pattern="^/dev/", doc="The host's, of passthrough and evdev."
    )
    repeat: bool | None = xml("source/@repeat", ON_OFF, doc="evdev only.")
    grab: Literal["all"] | None = xml("source/@grab", doc="evdev only: all devices change sides together.")
    grab_toggle: str | None = xml(
        "source/@grabToggle", pattern=r"^[A-Za-z0-9_-]+$", doc="evdev only, such as ctrl-ctrl."
    )
    virtio: Virtio | None = xml("driver", shared=True)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.type in ("passthrough", "evdev")) != (self.device is not None):
            raise ValueError("device goes with type passthrough or evdev")
        return self

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        # what an x86 machine has of itself
        return not (node.get("bus") == "ps2" and node.get("type") in ("mouse", "keyboard"))
