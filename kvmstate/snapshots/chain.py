"""Which image files a host has, which of them lie on which, and where a domain's snapshots are in that.

The files are asked of the storage pools, never of the domains: their inactive XML says nothing of what lies below, and
so it is the same over every transport. A file outside of every active pool is not known.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from lxml import etree

from kvmstate.errors import HostError, NotFound, Unseen
from kvmstate.host import Host, domains, pools, snapshots, volumes
from kvmstate.host.connection import lasting
from kvmstate.host.objects import Connection, Domain, Volume
from kvmstate.model.pool_types import image_format
from kvmstate.snapshots import dropped, underway
from kvmstate.xmlbind import disk_source, document, to_text
from kvmstate.xmlbind.path import parse_path

# How the overlays that are made here end, and nothing else does
SUFFIX = ".overlay"
# What to do about checkpoints
LET_GO = "`virsh checkpoint-delete {0} {1} --metadata` for each; the next backup is a full one then"


@dataclass(frozen=True)
class Image:
    """An image file; sizes in bytes, `allocation` is what it occupies and `physical` how long it is."""

    path: str
    volume: str
    format: str
    capacity: int
    allocation: int
    physical: int
    backing: str | None
    backing_format: str
    owner: tuple[str, str] | None


@dataclass(frozen=True)
class Disk:
    """A disk of a domain: `path` is the file that is written to; `encrypted` that, or what it lies on."""

    target: str
    path: str
    format: str
    is_file: bool
    writable: bool
    encrypted: bool = False


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as libvirt keeps it. `frozen` says by target which file holds the disk as it was then, `overlays`
    which file took the writes from then on; both only of external snapshots. `created` is in seconds since 1970.
    """

    name: str
    parent: str | None
    created: int
    state: str
    description: str
    external: bool
    memory: str | None
    has_memory: bool
    is_current: bool
    frozen: dict[str, str]
    overlays: dict[str, str]
    xml: str = field(repr=False)

    def of(self, machine: str) -> str:
        """What it is called among the users of a file."""
        return f"snapshot {self.name} of virtual machine {machine}"

    @property
    def mode(self) -> str:
        return "external" if self.external else "internal"

    @property
    def domain(self) -> etree._Element:
        """The domain as it was then: as it ran, if it did."""
        found = document(self.xml).find("domain")
        if found is None:
            raise HostError(f"snapshot {self.name} says nothing of the machine's configuration", "it cannot be used")
        return found

    @property
    def configuration(self) -> etree._Element:
        """The domain as it was defined then."""
        found = document(self.xml).find("inactiveDomain")
        if found is None:
            return self.domain
        found.tag = "domain"
        return found


@dataclass(frozen=True)
class Machine:
    """A domain, its disks and its snapshots, parents first. The files that are `dropped` may go, see there."""

    domain: Domain
    name: str
    state: str
    disks: tuple[Disk, ...]
    snapshots: tuple[Snapshot, ...]
    dropped: frozenset[str] = frozenset()

    def snapshot(self, name: str) -> Snapshot:
        """Find a snapshot by its name. Raises NotFound."""
        for snapshot in self.snapshots:
            if snapshot.name == name:
                return snapshot
        known = ", ".join(snapshot.name for snapshot in self.snapshots) or "none"
        raise NotFound(f"virtual machine {self.name} has no snapshot {name}", f"it has: {known}")

    @property
    def own(self) -> set[str]:
        """The machine and its snapshots among the users of a file."""
        return {f"virtual machine {self.name}", *(snapshot.of(self.name) for snapshot in self.snapshots)}

    @property
    def current(self) -> Snapshot | None:
        return next((snapshot for snapshot in self.snapshots if snapshot.is_current), None)

    def lineage(self, of: Snapshot | None = None) -> list[Snapshot]:
        """A snapshot and its ancestors, oldest first; by default the current one, on which the state builds."""
        by_name = {snapshot.name: snapshot for snapshot in self.snapshots}
        found: list[Snapshot] = []
        at = of or self.current
        while at:
            found.insert(0, at)
            at = by_name.get(at.parent or "")
        return found


class Images:
    """The image files of a host's active pools, as of now."""

    def __init__(self, host: Host) -> None:
        self._host = host
        listed: list[tuple[str, Volume]] = []
        for pool in pools.all_pools(host.connection):
            # a pool that is being filled, or that has gone: what libvirt knew before has to do
            with suppress(HostError):
                pools.refresh(pool, timeout=2)
            listed += [(pool.name, volume) for volume in pools.volumes(pool)]

        def look(each: tuple[str, Volume]) -> Image | None:
            with suppress(Unseen):
                return image_of(*each)
            return None

        found = [image for image in host.each(look, listed) if image]
        self.by_path: dict[str, Image] = {image.path: image for image in found}
        self._backed = {image.backing for image in found}

    def chain(self, path: str, format_: str) -> list[Image]:
        """The file and all that lies below it. Ends where a file is not known."""
        found: list[Image] = []
        at: str | None = path
        while at and (image := self.by_path.get(at)) and image not in found:
            found.append(image)
            # what a raw image holds is the guest's, also when it looks like another format
            at, format_ = (image.backing, image.backing_format) if format_ != "raw" else (None, "")
        return found

    def lies_on(self, disk: Disk, path: str) -> bool:
        return any(image.path == path for image in self.chain(disk.path, disk.format))

    def above(self, path: str) -> list[Image]:
        """The images that lie directly on this one."""
        return [image for image in self.by_path.values() if image.backing == path]

    def known(self, path: str) -> Image:
        """Find the image at this path. Raises HostError."""
        if path in self.by_path:
            return self.by_path[path]
        raise HostError(
            f"{path} is in no active storage pool, so that its backing chain cannot be seen or changed safely",
            f"make {posixpath.dirname(path)} a pool: `virsh pool-define-as NAME dir --target FOLDER`, then start it",
        )

    @cached_property
    def _users(self) -> dict[str, set[str]]:
        users = defaultdict(set, frozen(self._host))
        for domain in domains.all_domains(self._host.connection):
            with suppress(NotFound):
                name = f"virtual machine {domain.name}"
                for inactive in (True, False):
                    for disk in located(domains.xml(domain, inactive), self._host.connection).iterfind("devices/disk"):
                        for path in _sources(disk):
                            users[path].add(name)
        return users

    def users(self, path: str) -> set[str]:
        """Who needs this file, of the whole host: machines (as they are defined and as they run), snapshots, and the
        volumes that are layers over it."""
        return self._users.get(path, set()) | {f"volume {image.volume}" for image in self.above(path)}


def frozen(host: Host, machines: Collection[str] | None = None) -> dict[str, set[str]]:
    """Collect, by path, the snapshots that a file belongs to, of every domain or of these."""
    found: dict[str, set[str]] = defaultdict(set)
    for domain in snapshots.with_snapshots(host.connection) if machines is None or machines else ():
        with suppress(NotFound):
            name = domain.name
            if machines is not None and name not in machines:
                continue
            for snapshot in read_snapshots(domain):
                for path in (*snapshot.frozen.values(), snapshot.memory):
                    if path:
                        found[path].add(snapshot.of(name))
    return found


@lasting
def frozen_lately(host: Host) -> dict[str, set[str]]:
    """The same as `frozen`, for those who ask for each of many machines."""
    return frozen(host)


def writers(host: Host, but: str) -> dict[str, set[str]]:
    """Collect, by path, the domains, all but this one, that write to a file, as they are defined or as they run."""
    found: dict[str, set[str]] = defaultdict(set)
    for domain in domains.all_domains(host.connection):
        with suppress(NotFound):
            for inactive in (True, False) if domain.name != but else ():
                for disk in disks(document(domains.xml(domain, inactive))):
                    if disk.writable:
                        found[disk.path].add(domain.name)
    return found


def overlays(host: Host) -> set[str]:
    """The files that exist because of a snapshot, of every domain: overlays and memory."""
    found: set[str | None] = set()
    for domain in snapshots.with_snapshots(host.connection):
        with suppress(NotFound):
            for snapshot in read_snapshots(domain):
                found |= {*snapshot.overlays.values(), snapshot.memory}
    return {path for path in found if path}


def look(host: Host, name: str) -> Machine:
    """Read a machine with its snapshots and chains. Raises NotFound."""
    try:
        domain = domains.find(host.connection, name)
    except NotFound as error:
        raise NotFound(error.message, f"`virsh -c {host.uri} list --all` names those that there are") from error
    # what is defined: a running domain's disks have the same paths, as snapshots and merges change both
    state = domains.state(domain)
    root = located(domains.xml(domain, inactive=state == "stopped"), host.connection)
    found = tuple(disks(root)), tuple(read_snapshots(domain))
    return Machine(domain, name, state, *found, dropped.read(domain))


def recovered(host: Host, name: str) -> Machine:
    """Read a machine that is to be changed: what a dead run has started for itself is ended. Raises NotFound, and
    HostError for a domain that a revert has left off."""
    found = ended(host, name)
    if cut_off := underway.found(found.domain):
        raise cut_off.cut_off(name)
    return found


def ended(host: Host, name: str) -> Machine:
    """Read a machine for what goes on with a revert. Raises NotFound."""
    found = look(host, name)
    if found.state == "paused":
        snapshots.end_idle(found.domain)
        found = look(host, name)
    if found.state != "stopped":
        # libvirt may not have come to say what a job of a dead run has done: what lies where is known after it
        if snapshots.settle_own_jobs(found.domain, [disk.target for disk in found.disks]):
            found = look(host, name)
        _define_as_it_runs(host, found)
    return found


def _define_as_it_runs(host: Host, machine: Machine) -> None:
    """A libvirtd that was killed may have switched the files of a running domain's disks, and not those that are
    defined: the next start would be on an overlay that is out of date, or write to a snapshot's file. Disks that were
    defined otherwise by somebody are left alone."""
    images: Images | None = None

    def follow(root: etree._Element) -> etree._Element | None:
        nonlocal images
        defined = {disk.target: disk for disk in disks(located(to_text(root), host.connection))}
        differ = [(d, defined[d.target]) for d in machine.disks if defined.get(d.target, d).path != d.path]
        images = images or (Images(host) if differ else None)
        behind = [
            runs
            for runs, other in differ
            if images and (images.lies_on(runs, other.path) or images.lies_on(other, runs.path))
        ]
        for disk in behind:
            lay(root.iterfind("devices/disk"), disk.target, disk.path, disk.format)
        return root if behind else None

    define(host, machine.domain, follow)


def refuse_checkpoints(machine: Machine) -> None:
    """Raise HostError for a domain with checkpoints: libvirt changes no external snapshot of it, and a merge would end
    half-way."""
    if found := snapshots.checkpoints(machine.domain):
        raise HostError(f"{machine.name} has {held_by(found)}", LET_GO.format(machine.name, found[0]))


def held_by(checkpoints: Collection[str]) -> str:
    """What keeps libvirt from changing snapshots."""
    several = "s" if len(checkpoints) > 1 else ""
    return f"checkpoint{several} {', '.join(checkpoints)} of a backup program, and libvirt changes no snapshots then"


def define(host: Host, domain: Domain, alter: Callable[[etree._Element], etree._Element | None]) -> None:
    """Have a domain be what `alter` makes of its configuration, which is read right before; None leaves it as it is."""
    before = domains.configuration(domain)
    node = alter(document(before.text))
    if node is not None:
        domains.redefine(before, to_text(node))


def rewrite(domain: Domain, name: str, alter: Callable[[etree._Element], object], current: bool | None = None) -> None:
    """Write a snapshot's metadata again, as `alter` makes it of what it is right before, where that makes a difference;
    `current` also makes it the one that the state builds on (or not). One that has gone stays gone."""
    with suppress(NotFound):
        text = snapshots.xml(snapshots.find(domain, name))
        root = document(text)
        alter(root)
        if current is None:
            if to_text(root) == to_text(document(text)):
                return
            current = snapshots.current(domain) == name
        snapshots.redefine(domain, to_text(root), current)


def disks(root: etree._Element) -> Iterator[Disk]:
    """The disks with something in them, CD-ROM drives left out."""
    for node in root.iterfind("devices/disk"):
        source, target, driver = disk_source.read(node), node.find("target"), node.find("driver")
        if node.get("device", "disk") != "disk" or source is None or target is None:
            continue
        yield Disk(
            target.get("dev", ""),
            source.path,
            (driver.get("type") if driver is not None else None) or "raw",
            node.get("type") == "file",
            node.find("readonly") is None and node.find("shareable") is None,
            disk_source.has_keys(node),
        )


def lay(nodes: Iterable[etree._Element], target: str, path: str, format_: str) -> None:
    """Have the <disk> of this target be another image file."""
    for disk in nodes:
        source = disk_source.read(disk)
        if source and parse_path("target/@dev").text(disk) == target and source.path != path:
            disk_source.write(disk, "file", path, format_)


def read_snapshots(domain: Domain) -> list[Snapshot]:
    """Read the snapshots of a domain. Raises NotFound when the domain has gone."""
    texts = snapshots.texts(domain)
    current = snapshots.current(domain) if texts else None
    found = [_snapshot(text, located(text, domain.connection)) for text in texts]
    return [replace(each, is_current=each.name == current) for each in found]


def located(text: str, connection: Connection) -> etree._Element:
    """A domain's or a snapshot's XML, with disks of type volume saying the file that they are. For reading only."""
    return disk_source.locate(document(text), lambda pool, name: volumes.place(connection, pool, name))


def _snapshot(text: str, root: etree._Element) -> Snapshot:
    inner, memory = root.find("domain"), root.find("memory")
    # libvirt's own revert keeps apart the overlays that it makes
    external = {
        node.get("name", ""): path
        for node in [*root.iterfind("disks/disk"), *root.iterfind("revertDisks/disk")]
        if node.get("snapshot") == "external" and (path := _source(node))
    }
    then = {disk.target: disk.path for disk in disks(inner)} if inner is not None else {}
    kept = memory.get("file") if memory is not None else None
    return Snapshot(
        name=root.findtext("name") or "",
        parent=root.findtext("parent/name"),
        created=int(root.findtext("creationTime") or 0),
        state=root.findtext("state") or "",
        description=root.findtext("description") or "",
        external=bool(external) or kept is not None,
        memory=kept,
        has_memory=memory is not None and memory.get("snapshot", "no") != "no",
        is_current=False,
        frozen={target: then[target] for target in external if target in then},
        overlays=external,
        xml=text,
    )


def _source(node: etree._Element) -> str | None:
    source = disk_source.read(node)
    return source.path or None if source else None


def _sources(disk: etree._Element) -> Iterator[str]:
    """The file that a disk is written to, those below it, and that of a copy which is being made."""
    for node in (disk, *disk.iter("mirror", "backingStore")):
        if (source := disk_source.read(node)) and source.path:
            yield source.path


def image_of(pool: str, volume: Volume) -> Image:
    """What libvirt sees of a volume's file. Raises NotFound."""
    root = document(volumes.xml(volume))
    format_, permissions = root.find("target/format"), root.find("target/permissions")
    below = root.find("backingStore/format")
    capacity = int(root.findtext("capacity") or 0)
    return Image(
        path=root.findtext("target/path") or "",
        volume=f"{pool}/{root.findtext('name')}",
        format=image_format(format_.get("type", "raw")) if format_ is not None else "raw",
        capacity=capacity,
        allocation=int(root.findtext("allocation") or 0),
        physical=int(root.findtext("physical") or capacity),
        backing=root.findtext("backingStore/path") or None,
        backing_format=below.get("type", "raw") if below is not None else "raw",
        owner=(permissions.findtext("owner") or "0", permissions.findtext("group") or "0")
        if permissions is not None
        else None,
    )
