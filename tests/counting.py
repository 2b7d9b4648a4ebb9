"""Calls to libvirt, counted on their way from a client to libvirtd.

`python counting.py PATH BEHIND SECONDS` does so as a process, on the host itself: who looks at the host's files looks
at those of the process that answers. It says how many there were by now for each line that it reads.
"""

from __future__ import annotations

import itertools
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmstate.sandbox import Sandbox

# https://libvirt.org/kbase/internals/rpc.html: length, program, version, procedure, type, serial, status
HEADER = struct.Struct(">IIIIIII")
KEEPALIVE = 0x6B656570
CALL = 0
_numbers = itertools.count(1)


class Counting:
    """A socket in front of libvirtd's, that counts what clients ask for; what comes back is `late` by so many
    seconds."""

    def __init__(self, path: Path, behind: str, late: float = 0) -> None:
        self.calls: Counter[str] = Counter()
        self._behind, self._late = behind, late
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def quiet(self, seconds: float) -> bool:
        """Whether nothing is asked for in so many seconds."""
        before = self.calls.total()
        time.sleep(seconds)
        return self.calls.total() == before

    def _serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._behind)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            pump = self._delay if self._late else self._pump
            threading.Thread(target=pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        pending = b""
        # one side goes first, and takes the other with it
        with suppress(OSError), closing(source), closing(target):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if counts:
                    pending = self._count(pending + data)
            target.shutdown(socket.SHUT_RDWR)

    def _delay(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        """What comes, each piece when it is due: one that waits does not hold up those after it."""
        due: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

        def read() -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    due.put((time.monotonic() + self._late, data))
            due.put((time.monotonic() + self._late, b""))

        threading.Thread(target=read, daemon=True).start()
        with suppress(OSError), closing(source), closing(target):
            while (piece := due.get())[1]:
                time.sleep(max(0, piece[0] - time.monotonic()))
                target.sendall(piece[1])
            target.shutdown(socket.SHUT_RDWR)

    def _count(self, data: bytes) -> bytes:
        """Of whole messages; the rest of the data."""
        while len(data) >= HEADER.size:
            length, program, _, procedure, kind, _, _ = HEADER.unpack_from(data)
            if len(data) < length:
                break
            if program == KEEPALIVE:
                self.calls["keepalive"] += 1
            elif kind == CALL:
                self.calls[f"{program:x}:{procedure}"] += 1
            data = data[length:]
        return data


class Proxy:
    """The same in front of a host's libvirtd, as a process on that host."""

    def __init__(self, host: Sandbox, late: float = 0) -> None:
        name = f"proxy-{next(_numbers)}"
        words = [sys.executable, __file__, f"/run/libvirt/{name}", "/run/libvirt/libvirt-sock", str(late)]
        self.uri = f"qemu+unix:///system?socket={host.socket.with_name(name)}"
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from kvmstate.cli import main; main()",
                "sandbox",
                "exec",
                "-n",
                host.name,
                "--",
                *words,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    @property
    def calls(self) -> int:
        """How many there were by now."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()


if __name__ == "__main__":
    path, behind, late = sys.argv[1:]
    counting = Counting(Path(path), behind, float(late))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(counting.calls.total() - counting.calls["keepalive"], flush=True)
