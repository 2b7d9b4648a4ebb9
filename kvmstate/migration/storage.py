"""The storage of a machine that goes to another host: what both hosts see, and what is copied there.

That both see the same is proven by a file that is made on the one and looked for on the other: paths, sizes and inodes
are alike on hosts that were installed alike. What runs has its disks copied by QEMU, which follows all that it writes;
what it only reads, and what is off, is copied through this client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from secrets import token_hex

from lxml import etree

from kvmstate.apply.gate import only
from kvmstate.errors import Unseen
from kvmstate.host import Host, pools, volumes
from kvmstate.host.files import normal
from kvmstate.host.identity import UNKNOWN
from kvmstate.host.objects import Volume
from kvmstate.kind import Fault
from kvmstate.kind.steps import Progress
from kvmstate.kinds import BY_WORD
from kvmstate.model.inventory import Entry
from kvmstate.model.pool_types import Volumes
from kvmstate.model.quantity import about
from kvmstate.model.resource import ResourceId
from kvmstate.plan.planner import observe
from kvmstate.xmlbind import disk_source, document, to_text
from kvmstate.xmlbind.path import parse_path

_VOLUME = BY_WORD[Volume.type]
# Of a qcow2 image that was just made, libvirt has written no more than so many bytes
_TABLES = 1 << 20

# What is made for a moment, to be looked for on the other host: with the time, and how long it may be there in seconds
_PROBE = re.compile(r"\.kvmstate-seen-(\d{10})-[0-9a-f]{16}")
_LASTS = 60
_TRIES = 5


class How(Enum):
    """SEEN by both hosts; SENT by QEMU while the machine runs; COPIED as it is by this client."""

    SEEN = "seen"
    SENT = "sent"
    COPIED = "copied"


@dataclass(frozen=True)
class Disk:
    """A disk of the machine: its `target` in what runs, empty where only the configuration has it. `volume` is what it
    is on, where that is in a pool."""

    path: str
    format: str
    target: str
    volume: ResourceId | None
    writes: bool


class Storage:
    """Of one machine with these XMLs, `running` is empty where it is off."""

    def __init__(self, source: Host, target: Host, running: str, config: str) -> None:
        self.source, self.target = source, target
        self.running = bool(running)
        self.disks = _disks(source, running, config)
        self.how: dict[Disk, How] = {}
        self._shared: dict[str, bool] = {}

    @cached_property
    def volumes(self) -> list[ResourceId]:
        return list(dict.fromkeys(disk.volume for disk in self.disks if disk.volume))

    def ways(self, copies: bool, left: Collection[ResourceId] = ()) -> Iterator[Fault]:
        """Decide `how` each disk gets there; tell why one does not. `left` are volumes there that a move has left."""
        for disk in self.disks:
            fault = self._way(disk, copies, left)
            if fault:
                yield fault
        yield from self._room()

    def _way(self, disk: Disk, copies: bool, left: Collection[ResourceId]) -> Fault | None:
        if disk.volume is None:
            self.how[disk] = How.SEEN
            return self._missing(disk.path)
        pool = disk.volume.name.partition("/")[0]
        there = self.target.lookup.files
        if there.type_of(pool) is None:
            hint = f"define it there: the machine's disk is volume {disk.volume.name}"
            return Fault((), f"there is no storage pool {pool} on {self.target.uri}", hint)
        if pool not in there.active:
            return Fault((), f"storage pool {pool} is not active on {self.target.uri}", "start it there")
        if self.shared(pool):
            self.how[disk] = How.SEEN
            return self._chain(disk)
        if disk.volume in observe(self.target, [disk.volume]):
            kind = there.type_of(pool)
            if kind and kind.volumes is Volumes.FILES:
                why = f"{disk.volume} is on both hosts, and not the same one"
                hint = "rename or delete that one, after a look"
                if disk.volume in left:
                    name = disk.volume.name.partition("/")[2]
                    hint = f"a move has left it there, as it was then: `virsh vol-delete {name} --pool {pool}` there"
                return Fault((), f"{why}: {self.target.uri} has another", hint)
            # what libvirt reaches by network, or as devices of a server, is named alike only where it is one
            self.how[disk] = How.SEEN
            return None
        if not copies:
            why = f"{disk.volume} is not on storage that both hosts see"
            return Fault((), why, "--copy-storage copies it there")
        self.how[disk] = How.SENT if disk.writes and disk.target else How.COPIED
        return self._uncopied(disk)

    def _uncopied(self, disk: Disk) -> Fault | None:
        """Why a disk cannot be copied."""
        assert disk.volume
        node = document(self.text(disk.volume))
        if node.find("target/encryption") is not None:
            return Fault((), f"{disk.volume} is encrypted, and kvmstate copies no such volumes", "copy it by hand")
        chain = list(self.source.lookup.files.chain(disk.path, disk.format or None))
        if len(chain) > 1:
            below = self.source.lookup.called(chain[1])
            hint = f"`virsh blockpull` makes it whole, or have {below} on storage that both hosts see, with it"
            return Fault((), f"{disk.volume} is a layer over {below}, which is not copied", hint)
        return None

    def _chain(self, disk: Disk) -> Fault | None:
        try:
            for below in list(self.source.lookup.files.chain(disk.path, disk.format or None))[1:]:
                ref = self.source.lookup.volume_at(below)
                if (ref is None or not self.shared(ref.pool)) and (fault := self._missing(below)):
                    return fault
        except Unseen as unseen:
            return Fault((), unseen.message, unseen.hint)
        return None

    def _missing(self, path: str) -> Fault | None:
        return missing(self.target, path)

    def _room(self) -> Iterator[Fault]:
        needs: dict[str, int] = {}
        for disk, how in self.how.items():
            if how is not How.SEEN and disk.volume:
                pool = disk.volume.name.partition("/")[0]
                needs[pool] = needs.get(pool, 0) + int(document(self.text(disk.volume)).findtext("allocation") or 0)
        for pool, size in needs.items():
            free = pools.space(pools.find(self.target.connection, pool))[1]
            if free < size:
                why = f"storage pool {pool} has {about(free)} left on {self.target.uri}, and {about(size)} are copied"
                yield Fault((), why, "make room there")

    def shared(self, pool: str) -> bool:
        """Whether it is proven that both hosts see the same files in the pools of this name."""
        if pool not in self._shared:
            self._shared[pool] = self._prove(pool)
        return self._shared[pool]

    def _prove(self, pool: str) -> bool:
        kinds = [host.lookup.files.type_of(pool) for host in (self.source, self.target)]
        if not all(kind and kind.volumes is Volumes.FILES for kind in kinds):
            return False
        here, there = (pools.find(host.connection, pool) for host in (self.source, self.target))
        for each in pools.volumes(here):
            # of a run that was killed
            if (made := _PROBE.fullmatch(each.name)) and abs(time.time() - int(made[1])) > _LASTS:
                volumes.delete(each, only(each.name, lambda thing: thing.name))
        name = f".kvmstate-seen-{int(time.time()):010d}-{token_hex(8)}"
        text = f"<volume><name>{name}</name><capacity>0</capacity><target><format type='raw'/></target></volume>"
        probe = volumes.create(here, text)
        try:
            pools.refresh(there)
            return any(volume.name == name for volume in pools.volumes(there))
        finally:
            volumes.delete(probe, only(name, lambda thing: thing.name))

    def text(self, id_: ResourceId) -> str:
        """The XML of a volume on the host that it leaves."""
        return volumes.xml(_volume(self.source, id_))

    @property
    def proven(self) -> bool:
        """Whether all that is written to and not copied is known to be seen by both hosts."""
        seen = [disk for disk, how in self.how.items() if how is How.SEEN and disk.writes]
        return all(disk.volume and self._shared.get(disk.volume.name.partition("/")[0]) for disk in seen)

    @property
    def sent(self) -> list[str]:
        """The targets of the disks that QEMU copies."""
        return [disk.target for disk, how in self.how.items() if how is How.SENT]

    @property
    def moved(self) -> dict[ResourceId, How]:
        """How each volume gets there."""
        return {disk.volume: how for disk, how in self.how.items() if disk.volume}

    def make(self, id_: ResourceId) -> str:
        """Make the volume on the other host, empty; tell which it is. Raises HostError where there is one."""
        pool, _, name = id_.name.partition("/")
        seen = observe(self.source, [id_])[id_]
        node = _VOLUME.ops.portable(seen, self.source)[1]
        node.find("name").text = name  # type: ignore[union-attr]
        for path in ("target/permissions", "backingStore"):
            parse_path(path).remove(node)
        # also where it takes more by now: a copy that was not put on record is known by its being empty
        parse_path("allocation").set(node, "0")
        made = volumes.create(pools.find(self.target.connection, pool), to_text(node))
        self.target.forget()
        # it may be written to at this moment
        for _ in range(_TRIES):
            if (told := _VOLUME.ops.identity(self.target, id_, made)) != UNKNOWN:
                break
        return told

    def fill(self, id_: ResourceId, made: str, progress: Progress) -> None:
        """Copy what is in a volume that nobody writes to."""
        volume, image = _volume(self.target, id_), _format(self.text(id_)) == "qcow2"
        whole = int(document(self.text(id_)).findtext("physical") or 0)

        def told(bytes_: int) -> None:
            progress(bytes_, max(whole, bytes_))

        chunks = volumes.download(self.source.connection, _volume(self.source, id_))
        permit = only(made, partial(_VOLUME.ops.identity, self.target, id_))
        volumes.upload(self.target.connection, volume, chunks, None, told, permit, _TABLES if image else 0)

    def rewritten(self, text: str) -> str:
        """The machine's XML, with paths as they are on the other host."""
        root, changed = document(text), False
        for node in root.iterfind("devices/disk"):
            said = disk_source.read(node)
            disk = next((d for d in self.disks if said and said.path and normal(said.path) == normal(d.path)), None)
            if disk is None or disk.volume is None:
                continue
            place = self.target.lookup.path_of(*disk.volume.name.split("/", 1))
            if place and place[1] != said.path:  # type: ignore[union-attr]
                disk_source.write(node, *place, None)
                changed = True
        return to_text(root) if changed else text


def discard(host: Host, entry: Entry) -> None:
    """Delete what was made on the host that a machine goes to, and is not whole. Raises HostError for what may be
    anything else."""
    found = observe(host, [entry.id]).get(entry.id)
    if found is None:
        return
    told, volume = partial(_VOLUME.ops.identity, host, entry.id), _volume(host, entry.id)
    # one that was made right before a run was killed is on no record yet
    made = entry.uuid or (told(volume) if _VOLUME.ops.unwritten(found) else "")
    volumes.delete(volume, only(made, told))
    host.forget()


def identity(host: Host, id_: ResourceId) -> str:
    """Which volume of this name it is."""
    return _VOLUME.ops.identity(host, id_, _volume(host, id_))


def missing(host: Host, path: str) -> Fault | None:
    """Why a machine would not find the file at this path."""
    if path.startswith("/dev/"):
        return None
    try:
        if host.lookup.files.file(path) is not None:
            return None
    except Unseen as unseen:
        return Fault((), f"whether {host.uri} has {path} cannot be seen: {unseen.message}", unseen.hint)
    return Fault((), f"{host.uri} has no file {path}", "copy it there, to the same path")


def _volume(host: Host, id_: ResourceId) -> Volume:
    pool, _, name = id_.name.partition("/")
    return volumes.find(pools.find(host.connection, pool), name)


def _format(text: str) -> str:
    node = document(text).find("target/format")
    return node.get("type", "") if node is not None else ""


def _disks(host: Host, running: str, config: str) -> list[Disk]:
    found: dict[str, Disk] = {}
    for text, runs in ((running, True), (config, False)):
        root: etree._Element | None = document(text) if text else None
        if root is None:
            continue
        for node in disk_source.locate(root, host.lookup.path_of).iterfind("devices/disk"):
            said, target, driver = disk_source.read(node), node.find("target"), node.find("driver")
            if said is None or not said.path or said.type not in ("file", "block") or normal(said.path) in found:
                continue
            writes = node.find("readonly") is None and node.find("shareable") is None
            at = target.get("dev", "") if target is not None and runs else ""
            format_ = driver.get("type", "") if driver is not None else ""
            found[normal(said.path)] = Disk(said.path, format_, at, _in_pool(host, said.path), writes)
    return list(found.values())


def _in_pool(host: Host, path: str) -> ResourceId | None:
    if ref := host.lookup.volume_at(path):
        place = host.lookup.path_of(ref.pool, ref.name)
        # not the volume below an overlay
        if place and normal(place[1]) == normal(path):
            return ResourceId(Volume.type, f"{ref.pool}/{ref.name}")
    return None
