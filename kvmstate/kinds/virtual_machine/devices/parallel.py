"""Parallel ports: https://libvirt.org/formatdomain.html#parallel-port"""

from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.xmlbind import xml


class Parallel(CharDevice):
    """A parallel port."""

    tag = "parallel"
    key = "port"

    type: Type = xml("@type", default="pty")
    port: int = xml("target/@port", default=0, ge=0, le=2)
