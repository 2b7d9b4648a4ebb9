"""The files that a saved plan uploads: what they held when the plan was made is what is uploaded, or nothing is."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping

from kvmstate.errors import PlanError
from kvmstate.model.change import Action, Change

_KIND = "sha256"


def noted(change: Change) -> dict[str, object] | None:
    """The digest of the file that a change uploads, and how the file looked then; None where it uploads none, or where
    the manifest has its checksum. Raises PlanError when it cannot be read."""
    path = uploaded(change)
    return _read(path) if path else None


def uploaded(change: Change) -> str:
    """The local file whose content is not known by a checksum, or an empty text."""
    content = change.spec.filling() if change.action in (Action.CREATE, Action.REPLACE) and not change.blocked else None
    if content is None or content.checksum:
        return ""
    return content.file or ""


def same(path: str, known: Mapping[str, object]) -> bool:
    """Whether a file has the content that was noted. One that nobody has written to since is not read again. Raises
    PlanError when it cannot be read."""
    with_digest = {"digest": known["digest"]}
    try:
        if {**_look(os.stat(path)), **with_digest} == dict(known):
            return True
    except OSError as error:
        raise _unreadable(path, error) from None
    return bool(_read(path)["digest"] == known["digest"])


def checksum(known: Mapping[str, object]) -> str:
    """What was noted, as manifests write it."""
    return str(known["digest"])


def _read(path: str) -> dict[str, object]:
    try:
        # what is not a file of bytes shall not make it wait
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise PlanError(f"{path} is not a regular file", "content.file names an image")
            digest = hashlib.file_digest(file, _KIND).hexdigest()
            return {"digest": f"{_KIND}:{digest}", **_look(before)}
    except OSError as error:
        raise _unreadable(path, error) from None


def _look(found: os.stat_result) -> dict[str, int]:
    """What is another when anybody has written to it: the time of its last change (ctime) cannot be set."""
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return {name: getattr(found, name) for name in names}


def _unreadable(path: str, error: OSError) -> PlanError:
    return PlanError(f"{path}: {error.strerror}", "it is uploaded by this plan: it must be there, and readable")
