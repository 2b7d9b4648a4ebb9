"""Where a project's record and lock are kept: on the host, in libvirt secrets of usage `kvmstate:PROJECT:NAME`, so
that every client sees the same; where the driver has no secrets, in files under XDG_STATE_HOME."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from kvmstate.host import Host, secrets
from kvmstate.host.seal import for_its_owner, state_folder

VALUE_MAX = secrets.VALUE_MAX


class Keep(Protocol):
    """Values by name, and one claim. Every call does all or nothing, and raises HostError."""

    def projects(self) -> set[str]:
        """All projects that keep something on this host."""
        ...

    def of(self, project: str) -> Keep:
        """That of another project of this host."""
        ...

    def hide(self, secret: str) -> str:
        """The hash of a secret, by the host's key."""
        ...

    def read(self) -> dict[str, bytes]: ...
    def write(self, name: str, value: bytes) -> None: ...
    def delete(self, name: str) -> None: ...

    def claimed(self) -> tuple[str, str] | None:
        """The token (a UUID) that holds the claim, and the note that it left."""
        ...

    def claim(self, token: str, note: str) -> bool:
        """Take the claim, or leave a new note; False when another token has it."""
        ...

    def release(self, token: str) -> None:
        """End this token's claim, no other's."""
        ...


def open_keep(host: Host, project: str, claim: str = "lock") -> Keep:
    """`claim` is what the one claim is about."""
    return (Secrets if secrets.supported(host.connection) else Files)(host, project, claim)


class Secrets:
    def __init__(self, host: Host, project: str, claim: str = "lock") -> None:
        self._host = host
        self._connection = host.connection
        self._prefix = f"kvmstate:{project}:"
        self._claim = self._prefix + claim
        self._description = f"kvmstate: what project {project} owns here"

    def projects(self) -> set[str]:
        return {name.split(":")[1] for name in secrets.names(self._connection, "kvmstate:") if name.count(":") == 2}

    def of(self, project: str) -> Keep:
        return Secrets(self._host, project)

    def hide(self, secret: str) -> str:
        return self._host.sealing.hide(secret)

    def read(self) -> dict[str, bytes]:
        found = secrets.read_all(self._connection, self._prefix)
        return {name.removeprefix(self._prefix): value for name, value in found.items()}

    def write(self, name: str, value: bytes) -> None:
        secrets.write(self._connection, self._prefix + name, self._description, value)

    def delete(self, name: str) -> None:
        secrets.delete(self._connection, self._prefix + name)

    def claimed(self) -> tuple[str, str] | None:
        return secrets.holder(self._connection, self._claim)

    def claim(self, token: str, note: str) -> bool:
        return secrets.claim(self._connection, self._claim, token, note)

    def release(self, token: str) -> None:
        secrets.release(self._connection, token)


class Files:
    """One file a value, replaced in one go; the claim is a file that is read and written under flock."""

    def __init__(self, host: Host, project: str, claim: str = "lock") -> None:
        self._host = host
        self._claim = claim
        self._folder = state_folder(host.address) / project

    def projects(self) -> set[str]:
        return {path.name for path in self._folder.parent.glob("*") if path.is_dir()}

    def of(self, project: str) -> Keep:
        return Files(self._host, project)

    def hide(self, secret: str) -> str:
        return self._host.sealing.hide(secret)

    def read(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in self._folder.glob("*.value")}

    def write(self, name: str, value: bytes) -> None:
        self._make_folder()
        temporary = self._folder / f"{name}.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb", opener=for_its_owner) as file:
            file.write(value)
        temporary.replace(self._folder / f"{name}.value")

    def delete(self, name: str) -> None:
        (self._folder / f"{name}.value").unlink(missing_ok=True)

    def claimed(self) -> tuple[str, str] | None:
        with self._lock_file() as file:
            return self._said(file)

    def claim(self, token: str, note: str) -> bool:
        with self._lock_file() as file:
            found = self._said(file)
            if found and found[0] != token:
                return False
            file.truncate(0)
            file.write(f"{token} {note}")
        return True

    def release(self, token: str) -> None:
        with self._lock_file() as file:
            if (found := self._said(file)) and found[0] == token:
                file.truncate(0)

    @contextmanager
    def _lock_file(self) -> Iterator[IO[str]]:
        self._make_folder()
        with open(self._folder / self._claim, "a+", opener=for_its_owner) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file

    def _make_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @staticmethod
    def _said(file: IO[str]) -> tuple[str, str] | None:
        token, _, note = file.read().partition(" ")
        return (token, note) if token else None
