"""What a check says."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class Severity(enum.Enum):
    OK = "ok"
    NOTE = "note"
    """Good to know; nothing needs to be done."""
    WARNING = "warning"
    """Something will not work, or soon not, though the rest does."""
    ERROR = "error"
    """kvmstate or its machines do not work on this host."""


@dataclass(frozen=True)
class Finding:
    """`what` is a sentence without a full stop, `hint` how to fix it, `check` the id of the check."""

    severity: Severity
    what: str
    hint: str = ""
    check: str = ""

    def of(self, check: str) -> Finding:
        return replace(self, check=check)


def ok(what: str) -> Finding:
    return Finding(Severity.OK, what)


def note(what: str, hint: str = "", check: str = "") -> Finding:
    return Finding(Severity.NOTE, what, hint, check)


def warning(what: str, hint: str = "") -> Finding:
    return Finding(Severity.WARNING, what, hint)


def error(what: str, hint: str = "") -> Finding:
    return Finding(Severity.ERROR, what, hint)
