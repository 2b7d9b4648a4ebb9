"""Devices of few words: https://libvirt.org/formatdomain.html#devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import same_path, size


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


class Pstore(Device):
    """Where the guest's kernel leaves its last words."""

    tag = "pstore"

    backend: Literal["acpi-erst"] = xml("@backend", default="acpi-erst")
    path: str | None = xml("path", same=same_path, pattern="^/", lasting=True)
    size: Size = xml("size", size("KiB"), required=True, gt=0)
