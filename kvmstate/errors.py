"""Every error that kvmstate raises on purpose.

    KvmstateError            something a person should read; never shown as a traceback
    ├── ManifestErrors       one or many problems in manifests, each with its place
    ├── UsageError           the command line or the project file asks for something impossible
    ├── HostError            libvirt said no, or could not be reached
    │   ├── NotFound         the object is not there
    │   ├── Unseen           nobody can tell what is there
    │   ├── NotLive          what runs cannot be changed so: it waits for the next start
    │   ├── Reverted         a change failed and was taken back: tried again only when somebody wants it
    │   └── ConnectionFailed the host cannot be reached
    ├── PlanError            the plan cannot be made or must not be applied
    ├── Locked               another run holds the project's lock on the host, or has taken it over
    ├── SourceError          manifests cannot be fetched, or are not to be trusted; those in force stay
    └── SandboxError         a throw-away host could not be started or found

Each has a `hint`: one sentence that says what to do next, or an empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class KvmstateError(Exception):
    """The root: `message` says what and where, `hint` what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(KvmstateError):
    pass


class HostError(KvmstateError):
    """libvirt refused; `code` is libvirt's own error number (virErrorNumber), `errno` that of a system call on the host
    that failed; 0 when there is none."""

    def __init__(self, message: str, hint: str = "", code: int = 0, errno: int = 0) -> None:
        super().__init__(message, hint)
        self.code = code
        self.errno = errno


class NotFound(HostError):
    pass


class Unseen(HostError):
    """Nobody can tell what is there: its pool is not active, or over this connection nothing leads there."""


class NotLive(HostError):
    """The fields at `places` are written, and wait for the next start: libvirt cannot change them in what runs here."""

    def __init__(self, message: str, hint: str = "", places: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.places = places


class Reverted(HostError):
    pass


class ConnectionFailed(HostError):
    pass


class PlanError(KvmstateError):
    pass


class Locked(KvmstateError):
    pass


class SourceError(KvmstateError):
    pass


class SandboxError(KvmstateError):
    pass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a manifest, at a place a person can open."""

    message: str
    file: str
    line: int = 0
    column: int = 0
    path: str = ""
    hint: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        head = f"{self.where}: {self.path}: {self.message}" if self.path else f"{self.where}: {self.message}"
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class ManifestErrors(KvmstateError):
    """All that is wrong in a set of manifests, in the order of their files."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        super().__init__("\n".join(map(str, self.problems)))
