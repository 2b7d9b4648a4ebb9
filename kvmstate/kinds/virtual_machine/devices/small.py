"""Devices of few words: https://libvirt.org/formatdomain.html#devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import Scalar, Section, xml, xml_list
from kvmstate.xmlbind.codecs import same_path, size


def _hexadecimal(width: int) -> Scalar:
    """As libvirt writes them."""
    return Scalar(lambda text: int(text, 0), lambda value: f"0x{value:0{width}X}")


class Hub(Device):
    """A USB hub."""

    tag = "hub"
    key = ""

    type: Literal["usb"] = xml("@type", default="usb")


class Crypto(Device):
    """Encryption for the guest."""

    tag = "crypto"
    key = ""

    model: Literal["virtio"] = xml("@model", default="virtio")
    type: Literal["qemu"] = xml("@type", default="qemu")
    backend: Literal["builtin", "lkcf"] = xml("backend/@model", default="builtin")
    queues: int | None = xml("backend/@queues", ge=1)
    virtio: Virtio | None = xml("driver", shared=True)


class Lease(Device):
    """A lock that the machine has to have: https://libvirt.org/formatdomain.html#device-leases"""

    tag = "lease"
    key = "id"

    id: str = xml("key", required=True, doc="The lease's key.")
    lockspace: str | None = xml("lockspace")
    path: str = xml("target/@path", same=same_path, required=True, pattern="^/")
    offset: int | None = xml("target/@offset", ge=0, lasting=True)


class RedirRule(Section):
    """Devices that may come, or may not. What is not said is any."""

    allow: bool = xml("@allow", required=True)
    device_class: int | None = xml(
        "@class", _hexadecimal(2), ge=0, le=255, doc="The class of USB devices, such as 0x08 (storage)."
    )
    vendor: int | None = xml("@vendor", _hexadecimal(4), ge=0, le=65535)
    product: int | None = xml("@product", _hexadecimal(4), ge=0, le=65535)
    version: str | None = xml("@version", pattern=r"^[0-9]{1,2}\.[0-9]{2}$", doc="Such as 2.00.")


class RedirFilter(Device):
    """Which USB devices from elsewhere `redirdevs` take: the first rule that fits counts."""

    tag = "redirfilter"

    rules: list[RedirRule] = xml_list("usbdev")


class Pstore(Device):
    """Where the guest's kernel leaves its last words."""

    tag = "pstore"

    backend: Literal["acpi-erst"] = xml("@backend", default="acpi-erst")
    path: str | None = xml("path", same=same_path, pattern="^/", lasting=True)
    size: Size = xml("size", size("KiB"), required=True, gt=0)
