"""Where images are kept while they are fetched or converted: in the cache folder, for nobody else to read."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from kvmstate.errors import HostError


def folder() -> Path:
    """Made where it is missing. Raises OSError."""
    found = _place()
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


def path(name: str = "") -> Path:
    """A file of this process's, with a name of its own."""
    return _place() / f"{name or secrets.token_hex(8)}-{os.getpid()}.image"


def path_for(needs: int, what: str) -> Path:
    """A file of this process's, for so many bytes. `what` needs them, in the words of an error. Raises HostError where
    there is no room, and OSError."""
    if needs > room():
        raise HostError(
            f"{folder()} has no room for {what}: it needs {needs:,} bytes",
            "free some space there, or set XDG_CACHE_HOME to a larger place",
        )
    clear()
    return path()


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmstate" / "content"


def room() -> int:
    """How much may be written there, in bytes: some is left to others. Raises OSError."""
    free = os.statvfs(folder())
    return free.f_bavail * free.f_frsize // 20 * 19


def clear() -> None:
    """Delete what processes that were killed have left."""
    for each in _place().glob("*.image"):
        if not Path(f"/proc/{each.stem.rpartition('-')[2]}").exists():
            with suppress(OSError):
                each.unlink()
