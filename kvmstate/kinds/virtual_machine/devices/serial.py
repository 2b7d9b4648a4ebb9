"""Serial ports: https://libvirt.org/formatdomain.html#serial-port"""

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.kinds.virtual_machine.devices.base import drop, parent_of
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.path import parse_path


class Serial(CharDevice):
    """A serial port, which `virsh console` opens where its type is pty. `log` keeps what the guest writes in a file on
    the host."""

    tag = "serial"
    key = "port"

    type: Type = xml("@type", default="pty", doc="What is at the host's end.")
    port: int = xml("target/@port", default=0, ge=0, le=3, doc="The guest's port: 0 is its first, ttyS0.")
    target: str | None = xml(
        "target/@type", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="Such as isa-serial, usb-serial or pci-serial."
    )
    model: str | None = xml("target/model/@name", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="As QEMU calls it.")

    @classmethod
    def settle(cls, root: etree._Element) -> None:
        """libvirt shows the first serial port once more as a console, and would make that port again from it."""
        if root.find("devices/serial") is None:
            for target in root.findall("devices/console/target[@type='serial']"):
                drop(parent_of(target))

    @classmethod
    def omit(cls, root: etree._Element) -> None:
        """What an x86 machine's serial ports are unless they say otherwise, and the first of them once more as a
        console: https://libvirt.org/formatdomain.html#console"""
        if parse_path("os/type/@arch").text(root) not in ("x86_64", "i686"):
            return
        targets = parse_path("devices/serial/target[@type='isa-serial']").find_all(root)
        consoles = parse_path("devices/console/target").find_all(root)
        mirrored = bool(targets and consoles) and consoles[0].get("type") == "serial"
        # a console's port may be its place among those that are written
        if mirrored and all(console.get("port") == str(n) for n, console in enumerate(consoles[1:])):
            parse_path("devices/console").remove(root)
        for target in targets:
            del target.attrib["type"]
            parse_path("model[@name='isa-serial']").remove(target)
