"""Volumes grow, through the running machine that has one as its disk; not what others have laid something on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host, domains, volumes
from kvmstate.host.objects import Domain, Volume
from kvmstate.host.permit import Permit
from kvmstate.kind import Fault
from kvmstate.kinds.volume.encryption import forgotten
from kvmstate.model.resource import ResourceId
from kvmstate.snapshots.chain import frozen
from kvmstate.xmlbind import disk_source, document

BLOCK = 4096


class Opened(NamedTuple):
    """A running machine with a disk on the volume, the disk's target, its file (the volume, or what lies on it), and
    whether it may write to that."""

    domain: Domain
    target: str
    path: str
    writes: bool


def grow(host: Host, id_: ResourceId, volume: Volume, capacity: int, permit: Permit) -> None:
    """Never to less than it is. Raises HostError for one that cannot grow now."""
    if int(document(volumes.xml(volume)).findtext("capacity") or 0) >= capacity:
        return
    running = opened(host, id_, volume.path)
    for why in _held(host, id_, volume.path, running, volumes.xml(volume), capacity):
        raise HostError(why.message, why.hint)
    for domain, target, *_ in running:
        domains.block_resize(domain, target, capacity, volume, permit)
        return
    volumes.resize(volume, capacity, permit)


def ungrown(taken: int, capacity: int) -> tuple[str, str] | None:
    """Why libvirt grows no volume that takes so much of its pool (in bytes) to this capacity, and what to do."""
    # files take whole blocks
    least = -(-taken // BLOCK) * BLOCK
    if least <= capacity:
        return None
    return f"libvirt makes no volume smaller than what it takes of its pool ({least} bytes)", "choose a larger capacity"


def held(host: Host, id_: ResourceId, path: str, text: str, capacity: int) -> Fault | None:
    """Why a volume cannot grow now: a snapshot is of it, or a machine runs on a layer over it, whose QEMU lets nobody
    resize it. `text` is its XML."""
    return next(_held(host, id_, path, opened(host, id_, path), text, capacity), None)


def _held(host: Host, id_: ResourceId, path: str, running: list[Opened], text: str, capacity: int) -> Iterator[Fault]:
    if not running and (more := ungrown(int(document(text).findtext("allocation") or 0), capacity)):
        yield Fault(("capacity",), *more)
    if not running and forgotten(document(text)):
        hint = "start its machine, and apply again: the machine's QEMU has the passphrase"
        yield Fault(("capacity",), "it is encrypted, and grows only while a machine runs on it", hint)
    for owner in sorted(frozen(host, host.uses.machines_with(id_, path)).get(path, ())):
        hint = "merge first: `kvmstate snapshot merge`, then apply again"
        yield Fault(("capacity",), f"{owner} keeps this volume as it is", hint)
    for domain, _, above, _ in running:
        if not is_one(host, above, path):
            why = f"virtual machine {domain.name} runs on {host.lookup.called(above)}, a layer over it"
            hint = "shut that machine down first; or grow the layer instead, which has a capacity of its own"
            yield Fault(("capacity",), why, hint)


def opened(host: Host, id_: ResourceId, path: str) -> list[Opened]:
    """The disks of running machines that are on a volume, or on what lies on it."""
    found = []
    for domain in domains.named(host.connection, host.uses.machines_with(id_, path)):
        with suppress(NotFound):
            if domains.state(domain) == "stopped":
                continue
            running = disk_source.locate(document(domains.xml(domain, inactive=False)), host.lookup.path_of)
            for disk in running.iterfind("devices/disk"):
                chain = [source for node in (disk, *disk.iter("backingStore")) if (source := disk_source.read(node))]
                target = disk.find("target")
                if target is not None and any(is_one(host, source.path, path) for source in chain):
                    writes = disk.find("readonly") is None
                    found.append(Opened(domain, target.get("dev", ""), chain[0].path, writes))
    return found


def is_one(host: Host, path: str, other: str) -> bool:
    """Whether two paths lead to one file."""
    return path == other or bool({*host.uses.names(path)} & {*host.uses.names(other)})
