"""What files may name: what lies in the project's folder, and where the command line allows it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HINT = "put it there, or allow its folder on the command line: --allow-path DIR"


@dataclass(frozen=True)
class Reach:
    """`folders` are real paths. What is in them by its own real path may be named."""

    folders: tuple[str, ...] = ()

    @classmethod
    def of(cls, folders: Iterable[Path]) -> Reach:
        return cls(tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders)))

    def with_folders(self, folders: Iterable[Path]) -> Reach:
        return Reach(tuple(dict.fromkeys((*self.folders, *Reach.of(folders).folders))))

    def refused(self, path: str | Path) -> str:
        """Why it may not be named, or an empty text. Nothing is looked at but links."""
        real = os.path.realpath(path)
        if any(os.path.commonpath((real, folder)) == folder for folder in self.folders):
            return ""
        if real == os.path.abspath(path):
            return "this lies outside of the project's folder"
        how = f"a symbolic link to {os.readlink(path)}" if os.path.islink(path) else f"this leads to {real}"
        return f"{how}, outside of the project's folder"
