"""stdout and stderr of a process whose work does not depend on who listens.

A reader that has gone, a full disk or a stream that is closed would raise wherever something is said, in the middle of
a change too. Here nothing is raised: what cannot be written is dropped, and `lost` says why.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

# Who listened has gone: that is not a fault, as of `kvmstate plan | head`
_GONE = {errno.EPIPE, errno.ECONNRESET, errno.EIO}


class _Raw(io.FileIO):
    """What is written to a descriptor, as long as that goes."""

    failed: OSError | None = None

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: object) -> int:
        while self.failed is None:
            try:
                if (written := super().write(data)) is not None:  # type: ignore[arg-type]
                    return written
                # somebody who shares it has made it non-blocking
                select.select([], [self.fileno()], [])
            except (OSError, ValueError) as error:
                self.failed = error if isinstance(error, OSError) else OSError(errno.EBADF, os.strerror(errno.EBADF))
        return memoryview(data).nbytes  # type: ignore[arg-type]


def install() -> None:
    """Replace the standard streams of this process. What is closed is /dev/null from now on: the next file that is
    opened would take its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number is taken, and they are looked at in order
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def lost() -> str:
    """Why stdout does not have all that was written to it; nothing when it has, or when its reader did not want it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failed = raw.failed if isinstance(raw, _Raw) else None
    return "" if failed is None or failed.errno in _GONE else failed.strerror or str(failed)


def _stream(number: int, before: TextIO | None) -> TextIO:
    # a text that the terminal has no characters for is shown all the same
    known = before.errors if before and before.errors != "strict" else "backslashreplace"
    return io.TextIOWrapper(
        io.BufferedWriter(_Raw(number)),
        encoding=before.encoding if before else "utf-8",
        errors=known,
        line_buffering=number == 2 or bool(before and before.isatty()),
    )
