"""USB devices of whoever looks at the screen: https://libvirt.org/formatdomain.html#redirected-devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.xmlbind import xml


class Redirdev(CharDevice):
    """A USB port for a device from elsewhere."""

    tag = "redirdev"
    key = ""

    bus: Literal["usb"] = xml("@bus", default="usb")
    type: Type = xml("@type", default="spicevmc")
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")
