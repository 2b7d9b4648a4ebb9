"""A volume that is in another pool by now: its data is copied, and the machines on it go on with the copy.

A running machine is moved by a block copy of QEMU's, which follows all that it writes until it changes over; one that
is off gets another definition once all is copied. Until every machine has changed over the old volume is the whole one,
and the new one is recorded as incomplete: a run that is cut off is finished by the next, or its copy made once more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host import Host, domains, pools, snapshots, volumes
from kvmstate.host.objects import Domain, Pool, Volume
from kvmstate.kind import Context, Fault
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume.copy import Original
from kvmstate.kinds.volume.growth import Opened, is_one, opened
from kvmstate.model.change import Change
from kvmstate.model.pool_types import Volumes
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Observed, ResourceId
from kvmstate.xmlbind import disk_source, document, to_text
from kvmstate.xmlbind.path import parse_path

_SWITCHING = threading.Lock()
_MERGE = "merge or delete them first (`kvmstate snapshot`), then apply again"


def refused(host: Host, change: Change, source: Observed) -> Fault | None:
    """Why the data cannot be copied now, or a machine not follow it."""
    try:
        return next(_refused(host, change, source), None)
    except ConnectionFailed:
        raise
    except HostError as error:
        return Fault((), error.message, error.hint)


def _refused(host: Host, change: Change, source: Observed) -> Iterator[Fault]:
    path = document(source.xml).findtext("target/path") or ""
    if change.spec.encryption:
        hint = "give it its old pool again, and declare another volume beside it; copy within a machine that has both"
        yield Fault(("pool",), "an encrypted volume does not move to another pool", hint)
    for type_ in (host.lookup.files.type_of(id_.name.partition("/")[0]) for id_ in (source.id, change.id)):
        if type_ and type_.volumes is Volumes.NETWORK:
            yield Fault((), f"kvmstate copies nothing in pools of type {type_.name}", "copy it by hand, and adopt it")
    for user in sorted(host.uses.of_volume(source.id, path)):
        if user.snapshot or user.id.kind != "domain":
            yield Fault((), f"{user} needs {source.id} where it is", _MERGE)
    running = opened(host, source.id, path)
    for domain, target, above, _ in running:
        if not is_one(host, above, path):
            why = f"virtual machine {domain.name} runs on {host.lookup.called(above)}, a layer over {source.id}"
            yield Fault((), why, _MERGE)
        if snapshots.checkpoints(domain):
            yield Fault((), f"virtual machine {domain.name} has checkpoints, which a copy loses", "shut it down first")
        if (job := snapshots.job(domain, target)) and not _copies_to(host, domain, target, change):
            hint = f"let it end, or abort it: `virsh blockjob {domain.name} {target} --abort`"
            yield Fault((), f"disk {target} of virtual machine {domain.name} has a block job ({job})", hint)
    if len(running) > 1:
        names = " and ".join(sorted({each.domain.name for each in running}))
        yield Fault((), f"{names} run on {source.id} at once", "shut them down first")


class Move:
    """The steps of one change."""

    def __init__(self, change: Change, at: Context) -> None:
        assert change.copies
        self.old, self._new = change.copies, change.id
        self._change, self._at, self._host = change, at, at.host
        self._layered = False
        self._written: str | None = None

    @property
    def volume(self) -> Volume:
        """The old one. Raises NotFound."""
        return Original(self._host, VolumeRef.parse(self.old.name), None).volume

    def look(self) -> None:
        """Ask once more, right before. Raises HostError."""
        seen = Observed(self.old, "", volumes.xml(self.volume), None, {}, lambda seen: (None, None))
        for why in _refused(self._host, self._change, seen):
            raise HostError(why.message, why.hint)

    def create(self, pool: Pool, node: Any, made: Callable[[Volume], object], progress: Progress) -> None:
        """Make the volume of this document: empty for a machine that runs, else with all that the old one holds."""
        host, spec, old = self._host, self._change.spec, document(volumes.xml(self.volume))
        name, capacity = self._new.name.partition("/")[2], old.findtext("capacity") or "0"
        node.find("name").text = name
        parse_path("capacity").set(node, capacity)
        if node.find("allocation") is None:
            sparse = (host.lookup.files.type_of(self._new.name.partition("/")[0]) or spec.kept).sparse
            parse_path("allocation").set(node, "0" if sparse else capacity)
        running = self._running()
        self._layered = bool(running and spec.backing and old.findtext("backingStore/path"))
        if not self._layered:
            # libvirt's copy has all that lies below in it
            parse_path("backingStore").remove(node)
        if running:
            made(volumes.create(pool, to_text(node)))
            return
        original = Original(host, VolumeRef.parse(self.old.name), None)
        original.look()
        self._written = _written(original.volume)
        made(original.copied(pool, name, to_text(node), made, progress))

    def copy(self, progress: Progress) -> None:
        """Move the machine that runs to it; of what was copied already, see that nobody has written to it meanwhile."""
        running = self._running()
        if self._written is not None:
            if running or _written(self.volume) != self._written:
                raise HostError(f"{self.old} was written to while it was copied", "apply again to copy it once more")
            return
        if len(running) != 1:
            raise HostError(f"who runs on {self.old} has changed", "apply again to copy it once more")
        domain, target, *_ = running[0]
        pool, _, name = self._new.name.partition("/")
        volume = volumes.find(pools.find(self._host.connection, pool), name)
        disk, permit = etree.Element("disk"), self._at.gate.filling(self._change)
        self._show(disk)
        try:
            snapshots.copy(domain, target, volume, to_text(disk), self._layered, permit, progress)
        finally:
            self._host.uses.forget(ResourceId("domain", domain.name))

    def finish(self, progress: Progress) -> None:
        """Follow a copy that an interrupted run has begun: it goes on in QEMU, or is done."""
        for domain, target, *_ in self._running():
            if not _copies_to(self._host, domain, target, self._change):
                raise HostError(f"virtual machine {domain.name} is on {self.old} still", "plan again")
            snapshots.finish_copy(domain, target, progress)
            self._host.uses.forget(ResourceId("domain", domain.name))

    def switch(self) -> None:
        """Have the machines that are off say the new volume."""
        host = self._host
        try:
            path = self.volume.path
        except NotFound:
            # who is on the new one has left it before
            return
        for domain in domains.named(host.connection, host.uses.machines_with(self.old, path)):
            if any(each.domain.name == domain.name for each in self._running()):
                raise HostError(f"virtual machine {domain.name} runs on {self.old} by now", "apply again")
            # another disk of the machine may be moved at this moment
            with _SWITCHING:
                self._redefine(domain, path)

    def _redefine(self, domain: Domain, path: str) -> None:
        before = domains.configuration(domain)
        root, found = document(before.text), False
        for disk in root.iterfind("devices/disk"):
            if (said := disk_source.read(disk)) and _is_old(self._host, said, self.old, path):
                self._show(disk)
                found = True
        if found:
            domains.redefine(before, to_text(root))
            self._host.uses.forget(ResourceId("domain", domain.name))

    def _running(self) -> list[Opened]:
        try:
            return opened(self._host, self.old, self.volume.path)
        except NotFound:
            return []

    def _show(self, disk: etree._Element) -> None:
        place = self._host.lookup.volume_source(VolumeRef.parse(self._new.name))
        disk_source.write(disk, place.type, place.path, self._change.spec.content_format())


def _is_old(host: Host, said: disk_source.DiskSource, id_: ResourceId, path: str) -> bool:
    if said.pool:
        return f"{said.pool}/{said.volume}" == id_.name
    return bool(said.path) and is_one(host, said.path, path)


def _copies_to(host: Host, domain: Domain, target: str, change: Change) -> bool:
    """Whether the disk has a block job that copies it to the new volume."""
    own = host.lookup.path_of(*change.id.name.split("/", 1))
    for disk in document(domains.xml(domain, inactive=False)).iterfind("devices/disk"):
        said, mirror = disk.find("target"), disk.find("mirror[@job='copy']")
        if own and said is not None and said.get("dev") == target and mirror is not None:
            source = disk_source.read(mirror)
            return source is not None and is_one(host, source.path, own[1])
    return False


def _written(volume: Volume) -> str:
    """When it was written to last; of block devices nobody tells."""
    return document(volumes.xml(volume)).findtext("target/timestamps/mtime") or ""
