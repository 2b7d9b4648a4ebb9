"""The inventory on the host: which objects a project owns, and what was last applied to them.

It is kept in numbered shards (see `keep`). A shard is JSON, compressed; an entry is whole in one shard, so
that writing a shard changes what it says at once. Every shard carries a serial: of two entries for one object, the
newer counts (a crash between two writes can leave both).

Of secrets an entry has hashes, see `kvmstate.xmlbind.sealed`; a shard of an earlier version, which had them in clear,
is written again with the first flush.

Beside them is the header, which says whose record it is. It is written before the first shard and deleted after the
last one, and counts only while there are any.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache

from kvmstate.apply.keep import VALUE_MAX, Keep, open_keep
from kvmstate.errors import HostError
from kvmstate.host import Host
from kvmstate.kinds import BY_WORD
from kvmstate.model.identity import Identity
from kvmstate.model.inventory import ARRIVES, LEAVES, LEFT, Entry, Inventory, Migration
from kvmstate.model.resource import Lifecycle, ResourceId
from kvmstate.model.untrusted import DAMAGE, decompressed, expect, from_json
from kvmstate.xmlbind import sealed

# The second has entries that are not, or not yet, the project's own, which earlier versions do not know
FORMAT = 2
PLAIN = 1
HEADER = "project"
# What a shard of several entries holds before it is compressed: under libvirt's limit even if nothing is saved
SHARD_BYTES = VALUE_MAX - 4096
# What is read of one: an entry of its own may be larger, where it is well compressed
SHARD_MAX = 64 * VALUE_MAX
FLUSH_SECONDS = 0.5


class Store:
    """The inventory of one project on one host. Thread-safe; writes are gathered unless told to `flush`.

    `guard` is called before every write of any kind, and raises when this run may not write any more. With `repair`,
    damaged shards count for nothing and are set aside with the first flush; else they are an error.
    """

    def __init__(
        self,
        keep: Keep,
        project: str,
        clock: Callable[[], float] = time.monotonic,
        guard: Callable[[], None] = lambda: None,
        repair: bool = False,
        settle: bool = True,
    ) -> None:
        self.project = project
        self.guard = guard
        self.identity: Identity | None = None
        """Whose record it is to be from the next flush on; None: as it is."""
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()
        # of two writers the later one shall have the newer entries
        self._writing = threading.Lock()
        self._entries: dict[ResourceId, Entry] = {}
        # what is another project's, and stays on record here until that one's record says so
        self._handed: dict[ResourceId, Entry] = {}
        self._orphans: dict[ResourceId, Entry] = {}
        self._place: dict[ResourceId, int] = {}
        self._texts: dict[ResourceId, tuple[Entry, str]] = {}
        self._dirty: set[int] = set()
        self._present: set[int] = set()
        self._damaged: dict[int, bytes] = {}
        # what an earlier version wrote, whose secrets may be in clear
        self._clear: set[int] = set()
        self._header: Identity | None = None
        self._serial = 0
        self._flushed = clock()
        self._load(repair)
        if settle:
            self._settle()

    @property
    def inventory(self) -> Inventory:
        with self._lock:
            return Inventory(self.project, dict(self._entries), dict(self._orphans) if self._same_owner() else {})

    def get(self, id_: ResourceId) -> Entry | None:
        """What is recorded of one object."""
        with self._lock:
            return self._entries.get(id_)

    @property
    def damaged(self) -> tuple[int, ...]:
        """The parts of the record that cannot be read, and are set aside with the first flush."""
        return tuple(self._damaged)

    @property
    def recorded(self) -> Identity | None:
        """Whose record it is, as far as that is recorded."""
        return self._header if self._entries or self._handed or self._damaged else None

    def _same_owner(self) -> bool:
        """Whether what was orphaned was this project's, and not that of another one of its name."""
        before, now = self._header, self.identity
        return before is None or now is None or now in (before, replace(before, id=before.id or now.id))

    def put(self, *entries: Entry) -> None:
        # the host's key is read, or made, for the first secret
        come = [self._hidden(entry) for entry in entries if self._entries.get(entry.id) != entry]
        with self._lock:
            for entry in come:
                if self._entries.get(entry.id) != entry:
                    self._entries[entry.id] = entry
                    self._handed.pop(entry.id, None)
                    self._orphans.pop(entry.id, None)
                    if entry.id not in self._place:
                        self._place[entry.id] = max(self._place.values(), default=0)
                    self._dirty.add(self._place[entry.id])
        self._flush_if_due()

    def _hidden(self, entry: Entry) -> Entry:
        """As `sealed`, where it is not known to be so."""
        known = self._entries.get(entry.id)
        return entry if known and known.specs == entry.specs and not self._clear else self.sealed(entry)

    def sealed(self, entry: Entry) -> Entry:
        """The entry as it is recorded: with hashes for secrets."""
        sections = BY_WORD[entry.id.kind].sections
        specs: list[dict[str, object]] = []
        for spec in entry.specs:
            if (hidden := sealed(spec, self._keep.hide, sections)) not in specs:
                specs.append(hidden)
        return entry if tuple(specs) == entry.specs else replace(entry, specs=tuple(specs))

    def drop(self, id_: ResourceId) -> None:
        with self._lock:
            if self._entries.pop(id_, None):
                # its place stays until that is written: put again before, it must not move without having been there
                self._dirty.add(self._place[id_])
        self._flush_if_due()

    def orphan(self, id_: ResourceId) -> None:
        """It is not owned any more, and stays on the host. What was not whole is worth knowing again only where that
        can be told of it."""
        with self._lock:
            if entry := self._entries.pop(id_, None):
                self._dirty.add(self._place[id_])
                if not entry.incomplete or (entry.uuid and BY_WORD[id_.kind].holds_data):
                    self._orphans[id_] = Entry(
                        *(id_, entry.uuid, entry.specs[:1], entry.lifecycle),
                        incomplete=entry.incomplete,
                        orphaned=True,
                        moved_to=entry.moved_to,
                    )
        self._flush_if_due()

    def take_back(self, ids: Iterable[ResourceId]) -> None:
        """These orphans are owned again."""
        self.put(*(replace(self._orphans[id_], orphaned=False) for id_ in ids if id_ in self._orphans))

    def remember(self, orphans: Iterable[Entry]) -> None:
        """These were released, and stayed on the host; what is owned is not among them."""
        with self._lock:
            for entry in orphans:
                if entry.id not in self._entries:
                    self._orphans[entry.id] = entry
                    if entry.id not in self._place:
                        self._place[entry.id] = max(self._place.values(), default=0)
                    self._dirty.add(self._place[entry.id])

    def forget(self, ids: Iterable[ResourceId]) -> None:
        """These orphans are another project's to take up again."""
        with self._lock:
            for id_ in ids:
                if self._orphans.pop(id_, None):
                    self._dirty.add(self._place[id_])

    def hand(self, ids: Iterable[ResourceId], project: str) -> None:
        """These are the other project's from the next flush on, whose record must say by then that they come from here.

        They stay on record until `let_go`, or until that one says that it has them.
        """
        with self._lock:
            for id_ in ids:
                self._handed[id_] = replace(self._entries.pop(id_), handed_to=project)
                self._dirty.add(self._place[id_])

    def let_go(self, project: str) -> None:
        """What was handed to this project, which has it on record."""
        with self._lock:
            for id_ in [id_ for id_, entry in self._handed.items() if entry.handed_to == project]:
                del self._handed[id_]
                self._dirty.add(self._place[id_])

    def flush(self) -> None:
        """Write what has changed. Raises HostError and whatever `guard` does; the entries stay to be written."""
        with self._writing:
            self._flush()

    def _flush_if_due(self) -> None:
        # whoever writes already, writes for all: nobody waits for it
        if self._clock() - self._flushed >= FLUSH_SECONDS and self._writing.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._writing.release()

    def _flush(self) -> None:
        self._seal_what_is_clear()
        claims = self.identity is not None and self.identity != self._header and bool(self._entries)
        if self._dirty or self._damaged or claims:
            self.guard()
        for number, value in list(self._damaged.items()):
            self._keep.write(f"damaged-{number}-{zlib.crc32(value):08x}", value)
            self._keep.delete(str(number))
            del self._damaged[number]
        if claims:
            assert self.identity
            if not self._same_owner():
                with self._lock:
                    self._dirty |= {self._place[id_] for id_ in self._orphans}
                    self._orphans.clear()
            self._keep.write(HEADER, json.dumps({"format": PLAIN, **asdict(self.identity)}).encode())
            self._header = self.identity
        with self._lock:
            self._spread()
            # what moved out of a full shard is in a later one: it is written there before it goes from the old
            todo = {number: self._members(number) for number in sorted(self._dirty, reverse=True)}
            shards = {number: self._shard(members) for number, members in todo.items()}
            self._dirty.clear()
        # calls to the host take time, in which others go on to put and drop
        try:
            for number, members in todo.items():
                self._write(number, members, shards[number])
                del shards[number]
        finally:
            with self._lock:
                self._dirty |= shards.keys()
                known = self._known()
                self._place = {i: n for i, n in self._place.items() if i in known or n in self._dirty}
                self._flushed = self._clock()
        if self._header and not self._present:
            self.guard()
            self._keep.delete(HEADER)
            self._header = None

    def _seal_what_is_clear(self) -> None:
        with self._lock:
            if not self._clear:
                return
            for part in (self._entries, self._handed, self._orphans):
                for id_, entry in part.items():
                    if self._place[id_] in self._clear and (hidden := self.sealed(entry)) is not entry:
                        # digests without a key were of secrets, too
                        part[id_] = replace(hidden, digest="", applied=())
            self._dirty |= self._clear
            self._clear.clear()

    def _members(self, number: int) -> list[Entry]:
        return [entry for id_, entry in self._known().items() if self._place[id_] == number]

    def _known(self) -> Mapping[ResourceId, Entry]:
        """All that is on record, owned or not."""
        others = self._handed or self._orphans
        return {**self._orphans, **self._handed, **self._entries} if others else self._entries

    def _text(self, entry: Entry) -> str:
        """As it is written; most entries of a shard are as they were when it was written last."""
        known = self._texts.get(entry.id)
        if known is None or known[0] is not entry:
            known = self._texts[entry.id] = (entry, json.dumps(_dump(entry)))
        return known[1]

    def _spread(self) -> None:
        """Move what makes a shard too large to new ones."""
        for number in sorted(self._dirty):
            target, size = number, 0
            for entry in self._members(number):
                length = len(self._text(entry))
                if size and size + length > SHARD_BYTES:
                    target, size = max([*self._place.values(), *self._present]) + 1, 0
                    self._dirty.add(target)
                self._place[entry.id] = target
                size += length

    def _shard(self, members: list[Entry]) -> str:
        self._serial += 1
        entries = ", ".join(map(self._text, members))
        plain = not any(e.handed_from or e.handed_to or e.orphaned or e.migration for e in members)
        head = f'"format": {PLAIN if plain else FORMAT}, "sealed": true, "serial": {self._serial}'
        return f'{{{head}, "entries": [{entries}]}}'

    def _write(self, number: int, members: list[Entry], shard: str) -> None:
        if not members:
            if number in self._present:
                self._keep.delete(str(number))
                self._present.discard(number)
            return
        value = zlib.compress(shard.encode())
        if len(value) > VALUE_MAX:
            raise HostError(f"{members[0].id}: its spec is too large to be recorded on the host ({len(value)} bytes)")
        self._keep.write(str(number), value)
        self._present.add(number)

    def _load(self, repair: bool) -> None:
        shards = []
        for name, value in self._keep.read().items():
            if name == HEADER:
                self._header = _read_header(value, self.project, repair)
            if not name.isdecimal():
                continue
            number = int(name)
            try:
                serial, found, is_sealed = _read(value, self.project)
            except DAMAGE as error:
                if not repair:
                    raise HostError(
                        f"the record of what project {self.project} owns here is damaged (part {number}: {error})",
                        "nothing was changed; `kvmstate adopt` takes ownership of what the manifests declare again, "
                        f"and keeps the damaged part as kvmstate:{self.project}:damaged-{number}-…",
                    ) from error
                self._damaged[number] = value
                continue
            shards.append((serial, found, number))
            if not is_sealed:
                self._clear.add(number)
        for serial, entries, number in sorted(shards, key=lambda s: s[0]):
            self._present.add(number)
            self._serial = serial
            for entry in entries:
                if (older := self._place.get(entry.id)) is not None:
                    # left by a crash between two writes; it must not come back when the newer one goes
                    self._dirty.add(older)
                self._orphans.pop(entry.id, None)
                self._entries.pop(entry.id, None)
                (self._orphans if entry.orphaned else self._entries)[entry.id] = entry
                self._place[entry.id] = number

    def _settle(self) -> None:
        """Of what goes from one project to another, only one owns it; see `kvmstate.apply.transfer`."""
        others: dict[str, Store] = {}

        def there(project: str, id_: ResourceId) -> Entry | None:
            if project not in others:
                others[project] = Store(self._keep.of(project), project, settle=False)
            return others[project]._entries.get(id_)

        for id_, entry in list(self._entries.items()):
            if not (entry.handed_from or entry.handed_to):
                continue
            other = there(entry.handed_from or entry.handed_to, id_)
            del self._entries[id_]
            if entry.handed_to:
                if other and other.handed_from == self.project:
                    self._handed[id_] = entry
                    continue
            elif other and other.handed_to == self.project and other.uuid == entry.uuid:
                self._entries[id_] = replace(entry, handed_from="")
            self._dirty.add(self._place[id_])


def open_store(host: Host, project: str, guard: Callable[[], None] = lambda: None, repair: bool = False) -> Store:
    """Open a project's record. Raises HostError when the record is damaged (see `repair`), or was written by a newer
    version."""
    return Store(open_keep(host, project), project, guard=guard, repair=repair)


def _read(value: bytes, project: str) -> tuple[int, list[Entry], bool]:
    """Serial, entries, and whether their secrets are hashes. Raises HostError for what a newer version wrote; several
    others for what is damaged."""
    shard = from_json(decompressed(value, SHARD_MAX))
    if shard["format"] <= FORMAT:
        entries = [_load(entry) for entry in shard["entries"]]
        if all(entry.id.kind in BY_WORD for entry in entries):
            return int(shard["serial"]), entries, shard.get("sealed") is True
    raise HostError(
        f"the record of project {project} was written by a newer kvmstate", "use that version or a newer one"
    )


def _read_header(value: bytes, project: str, repair: bool) -> Identity | None:
    """Raises HostError for what a newer version wrote, and, unless it is to be repaired, for what is damaged."""
    try:
        header = from_json(value)
        if header["format"] <= FORMAT:
            return Identity(str(header["id"]), str(header["environment"]))
    except DAMAGE as error:
        if repair:
            return None
        raise HostError(
            f"the record of whose project {project} is here is damaged ({error})",
            "nothing was changed; `kvmstate adopt` writes it again",
        ) from error
    raise HostError(
        f"the record of project {project} was written by a newer kvmstate", "use that version or a newer one"
    )


def _dump(entry: Entry) -> dict[str, object]:
    return {
        "id": str(entry.id),
        "uuid": entry.uuid,
        "specs": entry.specs,
        "lifecycle": entry.lifecycle.model_dump(exclude_unset=True),
        **({"incomplete": True} if entry.incomplete else {}),
        **({"digest": entry.digest} if entry.digest else {}),
        **({"suspended": entry.suspended} if entry.suspended else {}),
        **({"confirmed": True} if entry.confirmed else {}),
        **({"built": True} if entry.built else {}),
        **({"handedFrom": entry.handed_from} if entry.handed_from else {}),
        **({"handedTo": entry.handed_to} if entry.handed_to else {}),
        **({"applied": entry.applied} if entry.applied else {}),
        **({"pending": entry.pending} if entry.pending else {}),
        **({"orphaned": True} if entry.orphaned else {}),
        **({"copiedFrom": entry.copied_from} if entry.copied_from else {}),
        **({"movedTo": entry.moved_to} if entry.moved_to else {}),
        **({"migration": asdict(entry.migration)} if entry.migration else {}),
    }


@cache
def _lifecycle(text: str) -> Lifecycle:
    """Most entries have one of a few."""
    return Lifecycle.model_validate_json(text)


def _load(value: dict[str, object]) -> Entry:
    return Entry(
        ResourceId.parse(expect(value["id"], str)),
        expect(value["uuid"], str),
        tuple(expect(value["specs"], list, dict)),
        _lifecycle(json.dumps(value["lifecycle"])),
        bool(value.get("incomplete")),
        expect(value.get("digest", ""), str),
        expect(value.get("suspended", ""), str),
        bool(value.get("confirmed")),
        expect(value.get("handedFrom", ""), str),
        expect(value.get("handedTo", ""), str),
        tuple(expect(value.get("applied", []), list, str)),
        tuple(expect(value.get("pending", []), list, str)),
        bool(value.get("orphaned")),
        bool(value.get("built")),
        expect(value.get("copiedFrom", ""), str),
        expect(value.get("movedTo", ""), str),
        _migration(value["migration"]) if "migration" in value else None,
    )


def _migration(value: object) -> Migration:
    said = expect(value, dict)
    words = [expect(said[name], str) for name in ("role", "host", "uri", "machine", "state")]
    if words[0] not in (LEAVES, LEFT, ARRIVES):
        raise ValueError(f"no move is {words[0]!r}")
    return Migration(*words, *(bool(said[name]) for name in ("autostart", "copied", "returns")))
