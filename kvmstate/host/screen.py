"""A domain's screens: where they are shown, pictures of them, and their keyboard."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import libvirt

from kvmstate.errors import HostError
from kvmstate.host import domains, ssh
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document

_PNG = b"\x89PNG\r\n\x1a\n"
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PPM = re.compile(rb"P6" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"255\s")
_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True)
class Display:
    """Where a screen is shown, as the host sees it: a port there (of TLS alone, too), or a socket. `everywhere`: the
    address is one of all that the host has."""

    type: str
    address: str = ""
    port: int = 0
    tls_port: int = 0
    socket: str = ""
    everywhere: bool = False

    @property
    def listens(self) -> bool:
        return bool(self.socket or self.port or self.tls_port)

    def seen_from(self, host: Host) -> Display:
        """What leads there from this machine; by ssh the way is through the host, which sees it as it is."""
        name = urlsplit(host.address).hostname
        return replace(self, address=name) if self.everywhere and name and not ssh.is_ssh(host.address) else self

    @property
    def there(self) -> str:
        """HOST:PORT, or the path of the socket."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return self.socket or f"{host}:{self.port or self.tls_port}"

    def uri(self, host: str | None = None, port: int = 0) -> str:
        """The address as viewers take it; or of another host and port that lead there."""
        if self.socket and host is None:
            return f"{self.type}+unix://{self.socket}"
        host = self.address if host is None else host
        host = f"[{host}]" if ":" in host else host
        if self.type == "spice" and not self.port and self.tls_port:
            return f"spice://{host}?tls-port={port or self.tls_port}"
        return f"{self.type}://{host}:{port or self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only the host itself reaches it."""
        return (
            bool(self.socket) or self.address == "localhost" or self.address.startswith("127.") or self.address == "::1"
        )


def displays(domain: Domain) -> list[Display]:
    """Those of an active domain, also those that listen nowhere. An address that means all of the host's is one that
    the host reaches."""
    found = []
    for node in document(domains.xml(domain, inactive=False)).iterfind("devices/graphics"):
        type_, listen = str(node.get("type")), node.find("listen")
        socket = node.get("socket") or (listen.get("socket") if listen is not None else "") or ""
        address = (listen.get("address") if listen is not None else None) or node.get("listen") or ""
        port, tls = (max(int(node.get(name) or 0), 0) for name in ("port", "tlsPort"))
        if type_ in ("vnc", "spice", "rdp"):
            found.append(Display(type_, _ALL.get(address, address), port, tls, socket, address in _ALL))
    return found


def screenshot(domain: Domain, screen: int = 0) -> bytes:
    """A picture of a screen of an active domain, as PNG: some versions of QEMU and libvirt give that, others PPM.
    Raises HostError."""
    with faults():
        stream = domain.raw.connect().newStream(0)
        domain.raw.screenshot(stream, screen, 0)
        parts = []
        while part := stream.recv(1 << 18):
            parts.append(part)
        stream.finish()
    return png(b"".join(parts))


def png(image: bytes) -> bytes:
    """A PNG as it is; of a PPM of 8 bits a colour (https://netpbm.sourceforge.net/doc/ppm.html) a PNG of its pixels.
    zlib does all that takes time: no library for images is needed. Raises HostError for anything else."""
    if image.startswith(_PNG):
        return image
    head = _PPM.match(image)
    if head is None:
        raise HostError("the host gave a picture that is neither PNG nor PPM")
    width, height = int(head[1]), int(head[2])
    pixels = image[head.end() :]
    # each line begins with its filter, which is none
    lines = b"".join(b"\0" + pixels[at : at + 3 * width] for at in range(0, 3 * width * height, 3 * width))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _PNG + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def send_keys(domain: Domain, codes: Sequence[int], hold_ms: int = 0) -> None:
    """Press keys at the same time, by their Linux codes (input-event-codes.h), and release them."""
    with faults():
        domain.raw.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, hold_ms, list(codes), len(codes), 0)
