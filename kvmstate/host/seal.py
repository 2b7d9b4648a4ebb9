"""The host's key for the hashes of secrets (see `kvmstate.xmlbind.sealed`): one for all projects, so that what is
handed over keeps its hashes.

It is a secret of libvirt's, of usage `kvmstate:key`. libvirt gives the value of a private one to nobody, so it is none:
who may read it may read the secrets themselves, in the machines' XML. It is in no file but libvirt's, except where the
driver has no secrets: there it is in one for its owner only, beside the record.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

from kvmstate.errors import HostError, NotFound
from kvmstate.host import secrets
from kvmstate.xmlbind import Seal

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

NAME = "kvmstate:key"
BYTES = 32
# How long (seconds) another run that is just making the key may take for it; one that was killed never does
MAKING = 5.0


class Sealing:
    """The host's seal: read when something asks for it, and then remembered."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._seal: Seal | None = None

    def known(self) -> Seal | None:
        """None where nothing was ever sealed. Raises HostError."""
        if self._seal is None and (key := _Key(self._host).read()):
            self._seal = Seal(key)
        return self._seal

    def made(self) -> Seal:
        """This seal, with a new key where there is none. Raises HostError."""
        if self._seal is None:
            self._seal = Seal(_Key(self._host).made())
        return self._seal

    def hide(self, secret: str) -> str:
        return self.made()(secret)

    def match(self, secret: str) -> str:
        """Hash a secret as `hide` does, to be looked for where nothing is written: without a key nothing has its
        hash."""
        seal = self.known()
        return seal(secret) if seal else ""


class _Key:
    def __init__(self, host: Host) -> None:
        self._connection = host.connection
        self._file = None if secrets.supported(host.connection) else state_folder(host.address) / "key"

    def read(self) -> bytes:
        if self._file:
            with suppress(FileNotFoundError):
                return _whole(self._file.read_bytes())
            return b""
        found = secrets.read(self._connection, NAME)
        return _whole(found) if found else b""

    def made(self) -> bytes:
        """Whoever else makes one at the same time, there is one key."""
        deadline = time.monotonic() + MAKING
        while not (key := self.read()):
            if self._file:
                self._make_file(self._file)
            elif uuid := secrets.define_new(self._connection, NAME, "kvmstate: the key of its hashes of secrets"):
                # unless it was taken for one that nobody finishes
                with suppress(NotFound):
                    secrets.set_value(self._connection, uuid, token_bytes(BYTES))
            elif time.monotonic() > deadline:
                secrets.delete(self._connection, NAME)
            else:
                time.sleep(0.05)
        return key

    @staticmethod
    def _make_file(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f"key.{os.getpid()}-{threading.get_ident()}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "xb", opener=for_its_owner) as file:
                file.write(token_bytes(BYTES))
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _whole(key: bytes) -> bytes:
    if len(key) != BYTES:
        raise HostError(
            f"the key of kvmstate's hashes of secrets is damaged ({len(key)} bytes of {BYTES})",
            f"delete it (the libvirt secret of usage {NAME}: `virsh secret-list`, `virsh secret-undefine`): the next "
            "apply makes another one",
        )
    return key


def state_folder(address: str) -> Path:
    """Where that is kept of a host whose driver has no secrets."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return state / "kvmstate" / hashlib.sha256(address.encode()).hexdigest()[:16]


def for_its_owner(path: str, flags: int) -> int:
    """Opens a file so that only its owner may read it, whatever the umask."""
    return os.open(path, flags, 0o600)
