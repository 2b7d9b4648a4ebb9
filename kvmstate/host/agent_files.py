"""Programs and files in a guest, by its agent: https://qemu-project.gitlab.io/qemu/interop/qemu-ga-ref.html"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kvmstate.errors import HostError
from kvmstate.host.agent import ask
from kvmstate.host.objects import Domain

# Seconds: between two looks at a program that runs, at first and later; for one question about a file
_FIRST, _LATER = 0.02, 0.5
_FILE = 60
# Bytes of one message: of a quarter of a MiB, QEMU 7.2 passes on no more than a part
CHUNK = 48 << 10


@dataclass(frozen=True)
class Ran:
    """How a program in a guest has ended; `cut`: it printed more than the agent keeps (16 MiB)."""

    code: int
    out: bytes
    err: bytes
    cut: bool = False


def execute(
    domain: Domain, command: Sequence[str], stdin: bytes = b"", env: Sequence[str] = (), seconds: float | None = None
) -> Ran:
    """Run a program, found as the agent's PATH says, and wait for its end. Raises HostError, also when it takes longer:
    it goes on then."""
    asked: dict[str, object] = {"path": command[0], "arg": list(command[1:]), "capture-output": True}
    if stdin:
        asked["input-data"] = base64.b64encode(stdin).decode()
    if env:
        asked["env"] = list(env)
    began, pause = time.monotonic(), _FIRST
    number = ask(domain, "guest-exec", asked)["pid"]
    while not (found := ask(domain, "guest-exec-status", {"pid": number}))["exited"]:
        if seconds is not None and time.monotonic() - began > seconds:
            raise HostError(
                f"{command[0]} takes longer than {seconds:g} s, and goes on in the guest as process {number}",
                "--timeout waits longer",
            )
        time.sleep(pause)
        pause = min(_LATER, pause * 1.5)
    code = found["exitcode"] if "exitcode" in found else 128 + int(found.get("signal", 0))
    out, err = (base64.b64decode(found.get(name, "")) for name in ("out-data", "err-data"))
    return Ran(int(code), out, err, bool(found.get("out-truncated") or found.get("err-truncated")))


def read_file(domain: Domain, path: str) -> Iterator[bytes]:
    """What a file of the guest holds. Raises HostError."""
    with _opened(domain, path, "r") as handle:
        while True:
            found = ask(domain, "guest-file-read", {"handle": handle, "count": CHUNK}, _FILE)
            if found["count"]:
                yield base64.b64decode(found["buf-b64"])
            if found["eof"] or not found["count"]:
                return


def write_file(domain: Domain, path: str, read: Callable[[int], bytes], told: Callable[[int], None]) -> int:
    """Write a file of the guest, over what it holds: all that `read` gives, in pieces, each of which is told. Gives how
    many bytes it has. Raises HostError."""
    done = 0
    with _opened(domain, path, "w") as handle:
        while data := read(CHUNK):
            text = base64.b64encode(data).decode()
            count = int(ask(domain, "guest-file-write", {"handle": handle, "buf-b64": text}, _FILE)["count"])
            if count != len(data):
                raise HostError(f"{path} in the guest took {count} of {len(data)} bytes: is its disk full?")
            done += count
            told(done)
        ask(domain, "guest-file-flush", {"handle": handle}, _FILE)
    return done


@contextmanager
def _opened(domain: Domain, path: str, mode: str) -> Iterator[int]:
    handle = int(ask(domain, "guest-file-open", {"path": path, "mode": mode}))
    try:
        yield handle
    finally:
        with suppress(HostError):
            ask(domain, "guest-file-close", {"handle": handle})
