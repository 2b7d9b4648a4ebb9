"""Downloads that are kept for the next volume of the same content, as many as fit into the size that
KVMSTATE_CACHE_SIZE says; without it none. Each is named after its checksum, which is compared when it is read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kvmstate.errors import UsageError
from kvmstate.kinds.volume import scratch
from kvmstate.model.quantity import parse_size

VARIABLE = "KVMSTATE_CACHE_SIZE"


def limit() -> int:
    """Bytes. Raises UsageError for what is not a size."""
    said = os.environ.get(VARIABLE, "")
    try:
        return int(parse_size(said)) if said else 0
    except ValueError:
        raise UsageError(f"{VARIABLE}={said} is not a size", "such as 20GiB; 0 keeps nothing") from None


def find(checksum: str) -> Path | None:
    """The file that is kept, which is the one used last from then on."""
    with suppress(OSError):
        if limit() and (path := _path(checksum)).is_file():
            os.utime(path)
            return path
    return None


def forget(checksum: str) -> None:
    """Delete one that could not be used."""
    with suppress(OSError):
        _path(checksum).unlink()


def keep(checksum: str, file: Path) -> None:
    """Keep a file that has been fetched and compared, or delete it."""
    with suppress(OSError):
        if 0 < file.stat().st_size <= limit():
            path = _path(checksum)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(file, path)
            _evict(path)
        else:
            file.unlink()


class Kept:
    """A download that is being kept: it counts when it is whole."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, piece: bytes) -> None:
        """Without room it is not kept, and nobody misses it."""
        if self._file:
            try:
                self._file.write(piece)
            except OSError:
                self._file = None

    def whole(self) -> None:
        """Its checksum has been compared."""
        if self._file:
            with suppress(OSError):
                self._file.flush()
                os.replace(self._file.name, self._path)
                _evict(self._path)


@contextmanager
def keeping(checksum: str, length: int) -> Iterator[Kept | None]:
    """For a download of so many bytes; None where it is not to be kept."""
    most = limit()
    try:
        if not checksum or length > most or length > scratch.room():
            yield None
            return
        path = _path(checksum)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False)  # noqa: SIM115
    except OSError:
        yield None
        return
    try:
        with file:
            yield Kept(file, path)
    finally:
        with suppress(OSError):
            # unless it has its name by now
            os.unlink(file.name)


def _path(checksum: str) -> Path:
    return scratch.folder().parent / "images" / checksum.replace(":", "-")


def _evict(newest: Path) -> None:
    """Delete what was used longest ago, until the rest fits."""
    found = sorted((path for path in newest.parent.iterdir()), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in found)
    for path in found:
        if total <= limit():
            return
        if path != newest:
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
