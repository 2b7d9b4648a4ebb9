"""The host's end of serial ports, channels and their like: https://libvirt.org/formatdomain.html#host-interface"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices import Source
from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import ON_OFF, same_path

Type = Literal[
    "pty",
    "file",
    "unix",
    "tcp",
    "udp",
    "dev",
    "pipe",
    "null",
    "stdio",
    "vc",
    "spicevmc",
    "spiceport",
    "qemu-vdagent",
    "dbus",
    "nmdm",
]


class CharDevice(Device):
    """A device with such an end."""

    source: Source | None = xml("source", shared=True, doc="What the type needs.")
    peer: Source | None = xml("source[2]", shared=True, doc="Of udp that waits (mode bind): where it sends to.")
    protocol: Literal["raw", "telnet", "telnets", "tls"] | None = xml(
        "protocol/@type", lasting=True, doc="Of type tcp. Default: raw."
    )
    log: str | None = xml("log/@file", same=same_path, pattern="^/", doc="A file that virtlogd writes.")
    log_append: bool | None = xml("log/@append", ON_OFF, doc="What is in the log stays.")
