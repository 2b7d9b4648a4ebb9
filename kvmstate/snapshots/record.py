"""Whose a snapshot is: written into its description, so that there is no other record to lose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

_RECORD = re.compile(r"kvmstate: project=(\S+) policy=(\S+) at=(\S+)")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Record:
    """The policy that a snapshot was taken for; `at` is when, in UTC, by the clock of who took it.

    What people or other programs have described in words of their own has no record, and is nobody's.
    """

    project: str
    policy: str
    at: datetime

    def __str__(self) -> str:
        return f"kvmstate: project={quote(self.project)} policy={quote(self.policy)} at={self.at.strftime(_TIME)}"

    @classmethod
    def read(cls, description: str) -> Record | None:
        match = _RECORD.fullmatch(description.strip())
        if match is None:
            return None
        try:
            at = datetime.strptime(match[3], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        # nobody took one near the ends of the calendar, where local times cannot be counted
        return cls(unquote(match[1]), unquote(match[2]), at) if 1970 <= at.year < 9999 else None
