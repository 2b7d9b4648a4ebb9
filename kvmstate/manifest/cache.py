"""What texts of manifests say, kept by the hash of the text: most are the same in the next run, and reading YAML takes
longer than all else that is done with it.

Kept is plain data, which is validated in every run; nothing of a text in which something is wrong, nor of one that may
hold a secret. Each set of manifests has a file of its own, with the texts of the last run. A file that cannot be read,
or is not one's own, counts for nothing, and one that cannot be written is not: a run never fails for it. All of them
may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from kvmstate import __version__

# Sets of manifests that are kept, the latest of them; and what is read of one
MOST = 32
MAX_BYTES = 128 << 20
# Line, column and data of each document
Said = Sequence[tuple[int, int, Any]]


class Cache:
    """Of one set of manifests, which `names` tells from others."""

    def __init__(self, names: Iterable[Path]) -> None:
        folder, named = _folder(), sorted(os.path.realpath(name) for name in names)
        key = _hash("\0".join(named).encode(errors="surrogateescape"))
        self._file = folder / f"{key}.json" if folder and named else None
        self._known = _read(self._file) if self._file else {}
        self._used: dict[str, Said] = {}

    def get(self, raw: bytes) -> Said | None:
        """What the text says, if it is known."""
        if not self._known:
            return None
        key = _hash(raw)
        if (said := self._known.get(key)) is not None:
            self._used[key] = said
        return said

    def put(self, raw: bytes, said: Said) -> None:
        self._used[_hash(raw)] = said

    def save(self) -> None:
        """Keep what was used, and only that."""
        if self._file and self._used.keys() != self._known.keys():
            with suppress(OSError):
                _write(self._file, {"version": __version__, "texts": self._used})


def _hash(raw: bytes) -> str:
    return blake2b(raw, digest_size=20).hexdigest()


def _folder() -> Path | None:
    """systemd's for a service, else the user's own; None where nothing is to be kept."""
    if os.environ.get("KVMSTATE_NO_CACHE"):
        return None
    if service := os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]:
        return Path(service) / "manifests"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmstate" / "manifests"
    except RuntimeError:
        # nobody's home
        return None


def _read(file: Path) -> dict[str, Said]:
    try:
        with open(file, "rb", opener=_opener) as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                return {}
            kept = json.loads(opened.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    texts = kept.get("texts") if isinstance(kept, dict) and kept.get("version") == __version__ else None
    return texts if isinstance(texts, dict) and all(map(_is_said, texts.values())) else {}


def _is_said(said: object) -> bool:
    return isinstance(said, list) and all(
        isinstance(each, list) and len(each) == 3 and type(each[0]) is type(each[1]) is int for each in said
    )


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _write(file: Path, content: object) -> None:
    """All or nothing, for its owner alone."""
    file.parent.mkdir(0o700, parents=True, exist_ok=True)
    if file.parent.stat().st_uid != os.geteuid():
        return
    with NamedTemporaryFile("w", dir=file.parent, prefix=".new-", delete=False) as new:
        try:
            new.write(json.dumps(content, separators=(",", ":")))
            new.close()
            os.replace(new.name, file)
        except BaseException:
            os.unlink(new.name)
            raise
    others = sorted(file.parent.glob("*.json"), key=lambda each: each.lstat().st_mtime, reverse=True)
    for old in others[MOST:]:
        old.unlink(missing_ok=True)
