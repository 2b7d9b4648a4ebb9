"""The host's end of serial ports, channels and their like: https://libvirt.org/formatdomain.html#host-interface"""

from __future__ import annotations

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import Section, xml
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


class Reconnect(Section):
    """Whether it calls again when the other has gone."""

    enabled: bool = xml("@enabled", required=True)
    timeout: int | None = xml("@timeout", ge=1, doc="In seconds.")


class Source(Section):
    """What the type needs. Of type udp, `host` and `service` are where it sends to."""

    path: str | None = xml(
        "@path", same=same_path, doc="Of file, unix, dev, pipe, or a pty that is there. Default of unix: libvirt's own."
    )
    mode: Literal["bind", "connect", "client-certificate"] | None = xml(
        "@mode", lasting=True, doc="Of unix, tcp and udp: whether it waits for the other, or calls it."
    )
    host: str | None = xml("@host", doc="Of tcp and udp: a name or an address.")
    service: str | None = xml("@service", doc="Of tcp and udp: a port.")
    append: bool | None = xml("@append", ON_OFF, doc="Of file: what is there stays.")
    tls: bool | None = xml("@tls", doc="Of tcp: encrypted.")
    channel: str | None = xml("@channel", doc="Of spiceport and dbus: its name there.")
    reconnect: Reconnect | None = xml("reconnect", doc="Of tcp and unix that connect.")
    clipboard: bool | None = xml("clipboard/@copypaste", doc="Of qemu-vdagent.")
    mouse: Literal["client", "server"] | None = xml("mouse/@mode", doc="Of qemu-vdagent.")


class CharDevice(Device):
    """A device with such an end."""

    source: Source | None = xml("source", shared=True, doc="What the type needs.")
    protocol: Literal["raw", "telnet", "telnets", "tls"] | None = xml(
        "protocol/@type", lasting=True, doc="Of type tcp. Default: raw."
    )
    log: str | None = xml("log/@file", same=same_path, pattern="^/", doc="A file that virtlogd writes.")
    log_append: bool | None = xml("log/@append", ON_OFF, doc="What is in the log stays.")
