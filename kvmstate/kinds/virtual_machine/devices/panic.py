"""How the guest tells of its panics: https://libvirt.org/formatdomain.html#panic-device"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import xml


class Panic(Device):
    """By which the guest tells that it has crashed: see onCrash."""

    tag = "panic"
    key = ""

    model: Literal["isa", "pseries", "hyperv", "s390", "pvpanic"] | None = xml("@model", lasting=True)
