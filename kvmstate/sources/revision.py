"""Where manifests come from, beside a folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Revision:
    """What the manifests are: `commit` is the full hash, `ref` what was asked for, `author` a name and an address,
    `time` that of the commit in UTC, `signer` who signed it, as verified, or empty."""

    commit: str
    ref: str
    author: str
    time: datetime
    subject: str
    signer: str = ""

    def __str__(self) -> str:
        signed = f", signed by {self.signer}" if self.signer else ""
        return f"{self.commit[:12]} of {self.ref} by {self.author}{signed}: {self.subject}"
