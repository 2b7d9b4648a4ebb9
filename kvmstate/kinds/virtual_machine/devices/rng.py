"""Random number generators: https://libvirt.org/formatdomain.html#random-number-generator-device"""

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import same_path


class Rng(Device):
    """Entropy for the guest."""

    tag = "rng"
    key = ""
    made_with = {"@model": "virtio", "backend/@model": "random"}

    source: str | None = xml(
        "backend",
        same=same_path,
        lasting=True,
        pattern="^/",
        doc="A random device of the host. Default: libvirt's own.",
    )
