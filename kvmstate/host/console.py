"""A domain's serial console: https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainOpenConsole"""

from __future__ import annotations

from contextlib import suppress

import libvirt

from kvmstate.host import domains
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document

# What the first serial port is called in a Linux guest, where it is not ttyS0
_PORTS = {"aarch64": "ttyAMA", "armv7l": "ttyAMA", "ppc64le": "hvc", "ppc64": "hvc", "s390x": "ttysclp"}


class Console:
    """An open console. It may be read and written at the same time, by two threads."""

    def __init__(self, domain: Domain, device: str | None = None, force: bool = False) -> None:
        """Open a device by its alias, such as serial0, or the first one; `force` takes it from whoever has it. Raises
        HostError."""
        flags = libvirt.VIR_DOMAIN_CONSOLE_FORCE if force else 0
        with faults():
            self._stream = domain.raw.connect().newStream(0)
            domain.raw.openConsole(device, self._stream, flags)

    def read(self) -> bytes:
        """Wait for what the guest prints; nothing when the console has ended. Raises HostError."""
        with faults():
            return bytes(self._stream.recv(65536))

    def write(self, data: bytes) -> None:
        """Type. Raises HostError."""
        with faults():
            while data:
                data = data[self._stream.send(data) :]

    def close(self) -> None:
        with suppress(libvirt.libvirtError):
            self._stream.abort()


def terminal(domain: Domain, device: str | None = None) -> str:
    """What a Linux guest calls the console, such as /dev/ttyS0; a guess by the XML."""
    root = document(domains.xml(domain, inactive=False))
    arch = root.find("os/type[@arch]")
    serial = _PORTS.get(str(arch.get("arch")) if arch is not None else "", "ttyS")
    for node in (*root.iterfind("devices/console"), *root.iterfind("devices/serial")):
        alias, target = node.find("alias"), node.find("target")
        if device and (alias is None or alias.get("name") != device):
            continue
        kind, port = (target.get("type"), target.get("port")) if target is not None else (None, None)
        virtio = node.tag == "console" and kind == "virtio"
        return f"/dev/{'hvc' if virtio else serial}{port or 0}"
    return f"/dev/{serial}0"
