"""Overlays as volumes of storage pools, so that libvirt's daemon makes and deletes them on whatever host it is."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Set

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, pools, volumes
from kvmstate.snapshots.chain import SUFFIX, Image, Images, Machine
from kvmstate.xmlbind import to_text

# A fresh qcow2 image has three clusters (of 64 KiB) and its L1 table; what is written first needs two more
_WRITTEN = 4 * 65536


def overlay_path(below: str, snapshot: str) -> str:
    """Beside the file that it lies on: vm.qcow2 and vm.monday.overlay, vm.tuesday.overlay."""
    folder, name = posixpath.split(below)
    # what names this file's own snapshot is not repeated
    stem = name.removesuffix(SUFFIX).rsplit(".", 1)[0] if name.endswith(SUFFIX) else posixpath.splitext(name)[0]
    return posixpath.join(folder, f"{stem}.{snapshot}{SUFFIX}")


def fresh_path(images: Images, below: str, snapshot: str, number: int = 2) -> str:
    """A name for one more overlay of a snapshot, from this number on: vm.monday~2.overlay, but not vm.monday~1.overlay.
    That of a dead run is taken again."""
    for count in itertools.count(number):
        path = overlay_path(below, f"{snapshot}~{count}" if count > 1 else snapshot)
        if path not in images.by_path or (images.by_path[path].backing == below and not images.users(path)):
            return path
    raise AssertionError


def make(host: Host, images: Images, below: Image, format_: str, path: str) -> None:
    """An empty overlay. One that a dead run has left is made anew; raises HostError when another file is in the way.

    libvirt would make it readable by everybody (CVE-2025-13193).
    """
    if found := images.by_path.get(path):
        if images.users(path) or found.backing != below.path:
            raise HostError(f"{path} exists, and is not the overlay to be made", "choose another snapshot name")
        remove(host, found)
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = posixpath.basename(path)
    etree.SubElement(root, "capacity", unit="bytes").text = str(below.capacity)
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", type="qcow2")
    permissions = etree.SubElement(target, "permissions")
    etree.SubElement(permissions, "mode").text = "0600"
    if below.owner:
        for tag, value in zip(("owner", "group"), below.owner, strict=True):
            etree.SubElement(permissions, tag).text = value
    backing = etree.SubElement(root, "backingStore")
    etree.SubElement(backing, "path").text = below.path
    etree.SubElement(backing, "format", type=format_)
    volumes.create(pools.find(host.connection, below.volume.partition("/")[0]), to_text(root))


def remove(host: Host, image: Image) -> None:
    """The caller has seen that nothing refers to it."""
    pool, _, name = image.volume.partition("/")
    volumes.delete(volumes.find(pools.find(host.connection, pool), name))


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
    """What a dead run or a revert has left behind, and nothing refers to: overlays made here for snapshots that the
    machine still has, on its snapshots' files; and for snapshots that it never had, on its disks' chains, as long as
    nothing was written to them. Any other file may be somebody's data."""
    below = {path for snapshot in machine.snapshots for path in snapshot.frozen.values()}
    chains = below | {image.path for disk in machine.disks for image in images.chain(disk.path, disk.format)}
    names = "|".join(re.escape(snapshot.name) for snapshot in machine.snapshots)
    made_here = re.compile(rf"\.({names})(~\d+)?{re.escape(SUFFIX)}$")
    return [
        image
        for image in images.by_path.values()
        if ((made_here.search(image.path) and _lies_on(images, image, below)) or _never_used(image, chains))
        and of_disks(images, machine, image.path)
        and not images.users(image.path)
    ]


def is_written(images: Images, path: str) -> bool:
    """Whether an overlay has data of its own; also when that cannot be told."""
    image = images.by_path.get(path)
    return image is None or image.backing is None or image.physical >= _WRITTEN


def _lies_on(images: Images, image: Image, paths: Set[str]) -> bool:
    return any(below.path in paths for below in images.chain(image.path, image.format)[1:])


def _never_used(image: Image, chains: Set[str]) -> bool:
    """An overlay of these files without any data."""
    if image.backing is None or image.backing not in chains or not image.path.endswith(SUFFIX):
        return False
    if image.physical >= _WRITTEN:
        return False
    return image.path.startswith(overlay_path(image.backing, "").removesuffix(SUFFIX))


def sweep(host: Host, images: Images, machine: Machine, say: Callable[[str], None]) -> None:
    """Delete leftovers until there are none: what lay below one may be one then."""
    while found := leftovers(images, machine):
        for image in found:
            remove(host, image)
            say(f"deleted {image.volume}")
            del images.by_path[image.path]
