"""The inventory on the host: which objects a project owns, and what was last applied to them.

It lives in libvirt secrets, usage `kvmstate:PROJECT:SHARD`, so that every client of the host sees the same; where the
driver has no secrets, in a file under XDG_STATE_HOME. A shard is JSON, compressed; an entry is whole in one shard, so
that writing a shard changes what it says at once. Every shard carries a serial: of two entries for one object, the
newer counts (a crash between two writes can leave both).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from kvmstate.errors import HostError
from kvmstate.host import Host, secrets
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.resource import Lifecycle, ResourceId

FORMAT = 1
# What a shard may hold before it is compressed: well under libvirt's limit for a secret even if nothing is saved
SHARD_BYTES = secrets.VALUE_MAX - 4096
FLUSH_SECONDS = 0.5


class Shards(Protocol):
    """Where shards are kept: a name, and bytes."""

    def read(self) -> dict[int, bytes]: ...
    def write(self, number: int, value: bytes) -> None: ...
    def delete(self, number: int) -> None: ...


class SecretShards:
    def __init__(self, host: Host, project: str) -> None:
        self._connection = host.connection
        self._prefix = f"kvmstate:{project}:"
        self._project = project

    def read(self) -> dict[int, bytes]:
        found = secrets.read_all(self._connection, self._prefix)
        return {int(name.removeprefix(self._prefix)): value for name, value in found.items()}

    def write(self, number: int, value: bytes) -> None:
        secrets.write(
            self._connection, f"{self._prefix}{number}", f"kvmstate: what project {self._project} owns here", value
        )

    def delete(self, number: int) -> None:
        secrets.delete(self._connection, f"{self._prefix}{number}")


class FileShards:
    """One file a shard, replaced in one go."""

    def __init__(self, host: Host, project: str) -> None:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        self._folder = state / "kvmstate" / hashlib.sha256(host.uri.encode()).hexdigest()[:16] / project

    def read(self) -> dict[int, bytes]:
        return {int(path.stem): path.read_bytes() for path in self._folder.glob("*.shard")}

    def write(self, number: int, value: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._folder / f"{number}.{os.getpid()}.tmp"
        temporary.write_bytes(value)
        temporary.replace(self._folder / f"{number}.shard")

    def delete(self, number: int) -> None:
        (self._folder / f"{number}.shard").unlink(missing_ok=True)


class Store:
    """The inventory of one project on one host. Thread-safe; writes are gathered unless told to `flush`."""

    def __init__(self, shards: Shards, project: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.project = project
        self._shards = shards
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[ResourceId, Entry] = {}
        self._place: dict[ResourceId, int] = {}
        self._dirty: set[int] = set()
        self._present: set[int] = set()
        self._serial = 0
        self._flushed = clock()
        self._load()

    @property
    def inventory(self) -> Inventory:
        with self._lock:
            return Inventory(self.project, dict(self._entries))

    def put(self, *entries: Entry) -> None:
        with self._lock:
            for entry in entries:
                if self._entries.get(entry.id) != entry:
                    self._entries[entry.id] = entry
                    self._dirty.add(self._place.setdefault(entry.id, self._room()))
        self._flush_if_due()

    def drop(self, id_: ResourceId) -> None:
        with self._lock:
            if self._entries.pop(id_, None):
                self._dirty.add(self._place.pop(id_))
        self._flush_if_due()

    def flush(self) -> None:
        """Write what has changed. Raises HostError; the entries stay to be written."""
        with self._lock:
            for number in sorted(self._dirty):
                members = {id_: e for id_, e in self._entries.items() if self._place[id_] == number}
                for part in self._fitting(number, members):
                    self._write(*part)
                self._dirty.discard(number)
            self._flushed = self._clock()

    def _flush_if_due(self) -> None:
        if self._clock() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def _room(self) -> int:
        return max(self._place.values(), default=0)

    def _fitting(self, number: int, members: dict[ResourceId, Entry]) -> list[tuple[int, dict[ResourceId, Entry]]]:
        """Split a shard that has grown too large; what moves out is written to its new place first."""
        parts: list[tuple[int, dict[ResourceId, Entry]]] = [(number, {})]
        size = 0
        for id_, entry in members.items():
            length = len(json.dumps(_dump(entry)))
            if length > SHARD_BYTES:
                raise HostError(f"{id_}: its spec is too large to be recorded on the host ({length} bytes)")
            if size + length > SHARD_BYTES:
                parts.append((max([*self._place.values(), *self._present, number]) + len(parts), {}))
                size = 0
            parts[-1][1][id_] = entry
            self._place[id_] = parts[-1][0]
            size += length
        return parts[::-1]

    def _write(self, number: int, members: Mapping[ResourceId, Entry]) -> None:
        if not members:
            if number in self._present:
                self._shards.delete(number)
                self._present.discard(number)
            return
        self._serial += 1
        value = {"format": FORMAT, "serial": self._serial, "entries": [_dump(e) for e in members.values()]}
        self._shards.write(number, zlib.compress(json.dumps(value).encode()))
        self._present.add(number)

    def _load(self) -> None:
        shards = []
        for number, value in self._shards.read().items():
            try:
                shard = json.loads(zlib.decompress(value))
                newer = shard["format"] > FORMAT
                shards.append((int(shard["serial"]), number, [] if newer else [_load(e) for e in shard["entries"]]))
            except (zlib.error, ValueError, KeyError, TypeError, ValidationError) as error:
                raise HostError(
                    f"the record of what project {self.project} owns here is damaged (part {number}: {error})",
                    "nothing was changed; `virsh secret-list` shows it as kvmstate:"
                    f"{self.project}:{number}. Without it, `kvmstate adopt` takes ownership anew",
                ) from error
            if newer:
                raise HostError(
                    f"the record of project {self.project} was written by a newer kvmstate",
                    "use that version or a newer one",
                )
        for serial, number, entries in sorted(shards, key=lambda s: s[0]):
            self._present.add(number)
            self._serial = serial
            for entry in entries:
                self._entries[entry.id] = entry
                self._place[entry.id] = number


def open_store(host: Host, project: str) -> Store:
    """Raises HostError when the record is damaged, or was written by a newer version."""
    kept = SecretShards(host, project) if secrets.supported(host.connection) else FileShards(host, project)
    return Store(kept, project)


def _dump(entry: Entry) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "uuid": entry.uuid,
        "specs": entry.specs,
        "lifecycle": entry.lifecycle.model_dump(exclude_unset=True),
        **({"incomplete": True} if entry.incomplete else {}),
    }


def _load(value: dict[str, Any]) -> Entry:
    return Entry(
        ResourceId.parse(value["id"]),
        value["uuid"],
        tuple(value["specs"]),
        Lifecycle.model_validate(value["lifecycle"]),
        bool(value.get("incomplete")),
    )
