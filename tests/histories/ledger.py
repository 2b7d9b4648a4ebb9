"""What every file of a host's pools holds: each gets a mark of its own, and no mark may get lost unless its loss was
allowed."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MARK = re.compile(rb"MARK-(\d{6})\n")
_SECTOR = 512
_PLACES = 2000
_QCOW2 = b"QFI\xfb"


def is_qcow2(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _QCOW2


def backing(path: Path) -> Path | None:
    """By the image's own header (https://www.qemu.org/docs/master/interop/qcow2.html)."""
    with path.open("rb") as image:
        head = image.read(20)
        offset, size = struct.unpack(">8xQI", head) if head[:4] == _QCOW2 and len(head) == 20 else (0, 0)
        image.seek(offset)
        return path.parent / image.read(size).decode() if offset else None


def chain(path: Path) -> Iterator[Path]:
    at: Path | None = path
    while at and at.exists():
        yield at
        at = backing(at)


class Ledger:
    """Of all files below a folder. `released` are the marks that may be gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self._scratch = folder.parent / "mark"
        self.held: dict[int, Path] = {}
        self.released: set[int] = set()

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def write(self, path: Path) -> None:
        """Put one more mark into a file that no QEMU has open."""
        self._count += 1
        self._scratch.write_bytes(b"MARK-%06d\n" % self._count)
        at = self._count % _PLACES * _SECTOR
        if is_qcow2(path):
            self._scratch.write_bytes(self._scratch.read_bytes().ljust(_SECTOR, b"\0"))
            command = f"write -q -s {self._scratch} {at} {_SECTOR}"
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], check=True, capture_output=True)
        else:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(self._scratch.read_bytes())
        self.held[self._count] = path

    def write_new(self, busy: str) -> None:
        """Mark every file without a mark; `busy` is text that names those that QEMUs have open."""
        for path in self.files():
            if str(path) not in busy and not self.marks(path) and path.stat().st_size >= _PLACES * _SECTOR // 8:
                # one whose base a QEMU has locked is marked when that has ended
                with suppress(subprocess.CalledProcessError):
                    self.write(path)

    def layers(self) -> list[Path]:
        return [path for path in self.files() if backing(path)]

    def is_needed(self, path: Path) -> bool:
        """Whether it is a layer with marks that must not get lost."""
        return path.exists() and backing(path) is not None and bool(self.marks(path) - self.released)

    def marks(self, path: Path) -> set[int]:
        """Those in the file itself."""
        return {int(number) for number in _MARK.findall(path.read_bytes())}

    def shown(self, path: Path) -> set[int]:
        """Those that a machine with this disk can read."""
        return {mark for each in chain(path) for mark in self.marks(each)}

    def release(self, path: Path) -> None:
        """What is in this file may go with it."""
        if path.exists():
            self.released |= self.marks(path)

    def release_with_layers(self, path: Path) -> None:
        """Somebody deletes this file, whatever lies on it."""
        for each in self.files():
            if path in chain(each):
                self.release(each)

    def lost(self) -> list[str]:
        there = {mark for path in self.files() for mark in self.marks(path)}
        return [f"{mark}: {path.name}" for mark, path in self.held.items() if mark not in there | self.released]

    def is_there(self, path: Path) -> bool:
        """Also when its folder is away for a while."""
        return path.exists() or (path.parent.with_name(f"{path.parent.name}.away") / path.name).exists()

    def cut_off(self) -> list[str]:
        """Layers whose base is gone, but for those whose mark may be gone."""
        bases = {path: backing(path) for path in self.files()}
        return [
            f"{path.name} lies on {base.name}, which is gone"
            for path, base in bases.items()
            if base and not self.is_there(base) and not self.marks(path) <= self.released
        ]
