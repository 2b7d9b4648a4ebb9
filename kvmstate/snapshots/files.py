"""Overlays as volumes of storage pools, so that libvirt's daemon makes and deletes them on whatever host it is."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Set

from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host, pools, volumes
from kvmstate.host.permit import InUse, unused
from kvmstate.model.resource import ResourceId
from kvmstate.snapshots import dropped
from kvmstate.snapshots.chain import SUFFIX, Image, Images, Machine, image_of
from kvmstate.xmlbind import to_text

# A fresh qcow2 image has three clusters (of 64 KiB) and its L1 table; what is written first needs two more
WRITTEN = 4 * 65536


def overlay_path(below: str, snapshot: str) -> str:
    """Beside the file that it lies on: vm.qcow2 and vm.monday.overlay, vm.tuesday.overlay."""
    folder, name = posixpath.split(below)
    # what names this file's own snapshot is not repeated
    stem = name.removesuffix(SUFFIX).rsplit(".", 1)[0] if name.endswith(SUFFIX) else posixpath.splitext(name)[0]
    return posixpath.join(folder, f"{stem}.{snapshot}{SUFFIX}")


def fresh_path(images: Images, below: str, snapshot: str, number: int = 2) -> str:
    """A name for one more overlay of a snapshot, from this number on: vm.monday~2.overlay, but not vm.monday~1.overlay.
    That of a dead run is taken again, unless it has data."""
    for count in itertools.count(number):
        path = overlay_path(below, f"{snapshot}~{count}" if count > 1 else snapshot)
        if path not in images.by_path or _is_free(images, path, below):
            return path
    raise AssertionError


def memory_path(images: Images, machine: Machine, folder: str, snapshot: str) -> str:
    """A new file for a snapshot's memory. That of a dead run is written again, any other is somebody's."""
    for count in itertools.count(1):
        path = posixpath.join(folder, f"{machine.name}.{snapshot}{f'~{count}' if count > 1 else ''}.memory")
        if path not in images.by_path or (path in machine.dropped and not images.users(path)):
            return path
    raise AssertionError


def _is_free(images: Images, path: str, below: str) -> bool:
    """Whether it is an overlay of this file that nobody uses or has written to."""
    return images.by_path[path].backing == below and not images.users(path) and not is_written(images, path)


def make(host: Host, images: Images, below: Image, format_: str, path: str) -> None:
    """An empty overlay. One that a dead run left is recreated; raises HostError when another file is in the way.

    libvirt would make it readable by everybody (CVE-2025-13193).
    """
    found = images.by_path.get(path)
    if found and not (_is_free(images, path, below.path) and remove(host, found)):
        raise HostError(f"{path} exists, and is not the overlay to be made", "choose another snapshot name")
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = posixpath.basename(path)
    etree.SubElement(root, "capacity", unit="bytes").text = str(below.capacity)
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", type="qcow2")
    etree.SubElement(target, "compat").text = volumes.QCOW2_V3
    permissions = etree.SubElement(target, "permissions")
    etree.SubElement(permissions, "mode").text = "0600"
    if below.owner:
        for tag, value in zip(("owner", "group"), below.owner, strict=True):
            etree.SubElement(permissions, tag).text = value
    backing = etree.SubElement(root, "backingStore")
    etree.SubElement(backing, "path").text = below.path
    etree.SubElement(backing, "format", type=format_)
    volumes.create(pools.find(host.connection, below.volume.partition("/")[0]), to_text(root))


def remove(host: Host, image: Image, but: Set[str] = frozenset()) -> bool:
    """Delete a file, unless somebody (`but` for these) uses it by now, or it is not as it was seen: asked right before.
    Whether it has been."""
    pool, _, name = image.volume.partition("/")
    try:
        volume = volumes.find(pools.find(host.connection, pool), name)
        if _nature(image_of(pool, volume)) != _nature(image):
            return False
        volumes.delete(volume, unused(host, ResourceId("volume", image.volume), but))
    except (NotFound, InUse):
        return False
    return True


def _nature(image: Image) -> tuple[object, ...]:
    return image.volume, image.format, image.backing, image.capacity, image.physical


def of_disks(images: Images, machine: Machine, path: str) -> bool:
    """Whether a file belongs to a disk that the machine has, and not to one that was detached, which holds data."""
    return _origin(images, machine, path) in {_origin(images, machine, disk.path) for disk in machine.disks}


def _origin(images: Images, machine: Machine, path: str) -> str:
    """The image that overlays lie on: those made here, and those of the machine's snapshots, whoever took them."""
    own = {overlay for snapshot in machine.snapshots for overlay in snapshot.overlays.values()}
    while (path in own or path.endswith(SUFFIX)) and (image := images.by_path.get(path)) and image.backing:
        path = image.backing
    return path


def leftovers(images: Images, machine: Machine) -> list[Image]:
    """What a dead run or a revert has left behind, and nothing refers to: overlays without data, made here for
    snapshots that the machine still has, on its snapshots' files, or for snapshots that it never had, on its disks'
    chains; and what was dropped, data and all. object other file may be somebody's data."""
    below, chains = _below(images, machine)
    names = "|".join(re.escape(snapshot.name) for snapshot in machine.snapshots)
    made_here = re.compile(rf"\.({names})(~\d+)?{re.escape(SUFFIX)}$")
    return [
        image
        for image in images.by_path.values()
        if (image.path in machine.dropped or not is_written(images, image.path))
        and (
            image.path in machine.dropped
            or (made_here.search(image.path) and _lies_on(images, image, below))
            or _named_after(image, chains)
        )
        and (image.path in machine.dropped or of_disks(images, machine, image.path))
        and not images.users(image.path)
    ]


def forsaken(images: Images, machine: Machine) -> list[Image]:
    """Overlays of the machine's disks that hold data, and that no disk or snapshot uses: somebody has put a disk back
    onto what they lie on. Only who did knows whether they are needed."""
    below, chains = _below(images, machine)
    own = {path for snapshot in machine.snapshots for path in snapshot.overlays.values()}
    return [
        image
        for image in images.by_path.values()
        if (image.path in own or image.path.endswith(SUFFIX))
        and image.path not in machine.dropped
        and is_written(images, image.path)
        and _lies_on(images, image, below | chains)
        and of_disks(images, machine, image.path)
        and not images.users(image.path)
    ]


def way_back(image: Image, machine: str) -> str:
    """What to do about a forsaken overlay."""
    pool, _, name = image.volume.partition("/")
    return (
        f"to have it back, give the disk the file {image.path} while {machine} is off (`virsh edit {machine}`), before "
        f"anything is written to what it lies on; if nobody needs it: `virsh vol-delete --pool {pool} {name}`"
    )


def _below(images: Images, machine: Machine) -> tuple[set[str], set[str]]:
    """The files of the machine's snapshots, and those with all that its disks are on."""
    below = {path for snapshot in machine.snapshots for path in snapshot.frozen.values()}
    return below, below | {image.path for disk in machine.disks for image in images.chain(disk.path, disk.format)}


def is_written(images: Images, path: str) -> bool:
    """Whether an overlay has data of its own; also when that cannot be told."""
    image = images.by_path.get(path)
    return image is None or image.backing is None or image.physical >= WRITTEN


def _lies_on(images: Images, image: Image, paths: Set[str]) -> bool:
    return any(below.path in paths for below in images.chain(image.path, image.format)[1:])


def _named_after(image: Image, chains: Set[str]) -> bool:
    """An overlay of these files, called as those that are made here are."""
    if image.backing is None or image.backing not in chains or not image.path.endswith(SUFFIX):
        return False
    return image.path.startswith(overlay_path(image.backing, "").removesuffix(SUFFIX))


def sweep(host: Host, images: Images, machine: Machine, say: Callable[[str], None]) -> None:
    """Delete leftovers until there are none: what lay below one may be one then."""
    stays: set[str] = set()
    while found := [image for image in leftovers(images, machine) if image.path not in stays]:
        for image in found:
            if remove(host, image):
                say(f"deleted {image.volume}")
                del images.by_path[image.path]
            else:
                stays.add(image.path)
    if machine.dropped:
        dropped.end(machine.domain)
