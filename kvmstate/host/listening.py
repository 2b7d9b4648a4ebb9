"""What a guest writes on its serial console while somebody waits for it: libvirt keeps nothing of that.

It is heard over any connection, by the console's stream, which libvirt gives to one only: where a person has it, it
stays theirs, and who takes it meanwhile (`kvmstate vm console --force`) has it. A port with a log is read from that
instead, where the host's files are those of this machine.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from types import TracebackType
from typing import Any

import libvirt

from kvmstate.errors import HostError
from kvmstate.host import domains
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document

LINES = 10
# Bytes, of which the last are kept
_KEPT = 16384
# Escape sequences of terminals (ECMA-48), and other control characters but line feeds
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x09\x0b-\x1f\x7f]")


class Listener:
    """Listens from the beginning of the `with` on."""

    def __init__(self, domain: Domain, near: bool) -> None:
        """`near`: the host's files are those of this machine."""
        self._domain, self._near = domain, near
        self._log = ""
        self._stream: Any = None
        self._heard = b""

    def __enter__(self) -> Listener:
        with suppress(HostError), faults():
            root = document(domains.xml(self._domain, inactive=False))
            log = root.find("devices/serial/log[@file]")
            if self._near and log is not None and os.access(log.get("file", ""), os.R_OK):
                self._log = log.get("file", "")
            elif root.find("devices/console") is not None:
                stream = self._domain.raw.connect().newStream(libvirt.VIR_STREAM_NONBLOCK)
                self._domain.raw.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
                self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream:
            with suppress(libvirt.libvirtError):
                self._stream.abort()

    def listen(self) -> None:
        """Take what has come since: libvirt holds up a guest whose words nobody takes."""
        if not self._stream:
            return
        try:
            while isinstance(said := self._stream.recv(65536), bytes) and said:
                self._heard = (self._heard + said)[-_KEPT:]
        except libvirt.libvirtError:
            # another one has it now, or the guest has ended
            self._stream = None

    def lines(self) -> list[str]:
        """The last that it has written."""
        self.listen()
        text = self._logged() if self._log else self._heard
        clean = _ESCAPES.sub("", text.decode(errors="replace"))
        return [line.rstrip() for line in clean.split("\n") if line.strip()][-LINES:]

    def told(self) -> str:
        """The same, as the end of a message; empty where there is nothing."""
        lines = self.lines()
        return "".join(["; the last lines of its console:", *(f"\n    {line}" for line in lines)]) if lines else ""

    def _logged(self) -> bytes:
        with suppress(OSError), open(self._log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _KEPT))
            return file.read(_KEPT)
        return b""
