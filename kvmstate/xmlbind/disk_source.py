"""The `<source>` of a disk: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms. Nothing else reads
it, or writes it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lxml import etree

# The attribute that says what a disk of each type shows; others are made of several, see `name`
_PATHS = {"file": "file", "block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}


@dataclass(frozen=True)
class DiskSource:
    """What a disk shows. `path` is that of a file, a block device, a folder or a socket; a disk of type volume names
    `pool` and `volume`; `name` is what a disk of any other type is called where it comes from."""

    type: str
    path: str = ""
    pool: str = ""
    volume: str = ""
    name: str = ""


def read(disk: etree._Element) -> DiskSource | None:
    """The source of a <disk> (or of a <mirror> or <backingStore>, which are alike); None where it has none."""
    source, kind = disk.find("source"), disk.get("type", "file")
    if source is None:
        return None
    if kind == "volume":
        return DiskSource(kind, pool=source.get("pool", ""), volume=source.get("volume", ""))
    path = source.get(_PATHS.get(kind, "file")) or source.get("file") or source.get("dev") or ""
    return DiskSource(kind, path=path, name=source.get("name", ""))


def write(
    disk: etree._Element, kind: str, path: str, format_: str | None, by_name: tuple[str, str] | None = None
) -> None:
    """Have a <disk> show a file or a block device (`kind`) at this path, said `by_name` as a pool and its volume where
    that is told. What libvirt noted of another chain goes."""
    old, key = read(disk), copy.deepcopy(encryption(disk, path))
    disk.set("type", "volume" if by_name else kind)
    source = disk.find("source")
    if source is None:
        source = etree.SubElement(disk, "source")
    if old is None or old.path != path:
        # it is how the other image is encrypted
        for other in source.findall("encryption"):
            source.remove(other)
        if key is not None:
            source.append(key)
    for attribute in ("file", "dev", "dir", "pool", "volume", "mode", "index", "name", "protocol"):
        source.attrib.pop(attribute, "")
    if by_name:
        source.set("pool", by_name[0])
        source.set("volume", by_name[1])
    else:
        source.set(_PATHS[kind], path)
    for stale in disk.findall("backingStore"):
        disk.remove(stale)
    driver = disk.find("driver")
    if driver is None:
        driver = etree.Element("driver", name="qemu")
        disk.insert(0, driver)
    if format_:
        driver.set("type", format_)


def encryption(disk: etree._Element, path: str) -> etree._Element | None:
    """How a disk says that the image at this path is encrypted: its own, or one that it lies on."""
    for node in (disk, *disk.iter("backingStore")):
        source = read(node)
        if source and source.path == path:
            return node.find("source/encryption")
    return None


def has_keys(disk: etree._Element) -> bool:
    """Whether an image of a disk's chain is encrypted."""
    return any(node.find("source/encryption") is not None for node in (disk, *disk.iter("backingStore")))


def locate(root: etree._Element, path_of: Callable[[str, str], tuple[str, str] | None]) -> etree._Element:
    """Have disks of type volume say the type and the path that libvirt will make of them, where `path_of` knows it.
    For reading only: what is written keeps saying what its author said."""
    for disk in root.iterfind(".//devices/disk[@type='volume']"):
        source = read(disk)
        node = disk.find("source")
        if source and node is not None and (found := path_of(source.pool, source.volume)):
            disk.set("type", found[0])
            node.set(_PATHS[found[0]], found[1])
    return root


def paths(root: etree._Element) -> Iterator[str]:
    """The files and devices of the disks in a domain's or a snapshot's XML, as `read` tells them."""
    for disk in root.iterfind(".//devices/disk"):
        if (source := read(disk)) and source.path:
            yield source.path
