"""Files that kvmstate writes for others to read, and people may edit.

Each begins with a digest of the rest, which tells what a person has edited since: that is not overwritten.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kvmstate.errors import UsageError

_HEAD = "# Written by kvmstate; what you change here is kept. sha256 of the rest: "
_HEADED = re.compile(re.escape(_HEAD) + r"([0-9a-f]{64})\n(.*)", re.DOTALL)


class Standing(enum.Enum):
    """How the file on disk compares with what it is to be."""

    ABSENT = "absent"
    SAME = "unchanged"
    OLD = "old"  # as kvmstate wrote it, at another time
    FOREIGN = "edited"  # by a person, or written by somebody else


@dataclass(frozen=True)
class File:
    path: Path
    body: str
    # what comes before all else
    lead: ClassVar[str] = ""
    mode: ClassVar[int] = 0o644

    @property
    def content(self) -> str:
        return f"{self.lead}{_HEAD}{_digest(self.body)}\n{self.body}"

    @property
    def standing(self) -> Standing:
        """Read the file that stands there. Raises UsageError when the file cannot be read."""
        try:
            there = self.path.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return Standing.ABSENT
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from None
        if there == self.content:
            return Standing.SAME
        headed = _HEADED.fullmatch(there.removeprefix(self.lead))
        return Standing.OLD if headed and _digest(headed[2]) == headed[1] else Standing.FOREIGN

    def write(self) -> None:
        """Whole or not at all. Raises UsageError."""
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(self.content, encoding="utf-8")
            beside.chmod(self.mode)
            beside.replace(self.path)
        except PermissionError as error:
            raise UsageError(f"{error.filename}: {error.strerror}", "run it as root") from None
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from None

    def remove(self) -> None:
        """Remove the file. Raises UsageError."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}", "run it as root") from None


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
