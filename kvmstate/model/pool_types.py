"""The types of storage pools: what is in one, and what libvirt can do to it. All that is to be known of a type stands
in its row here; the fields that manifests have for one are a section in `kvmstate.kinds.storage_pool.types`.

https://libvirt.org/storage.html, and the functions that each of libvirt's backends has
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal


class Volumes(enum.Enum):
    """How the volumes of a pool are found: files in one folder, each under its own name; block devices, by the paths
    that libvirt lists; or what a server has, at no path of the host."""

    FILES = "files in a folder"
    DEVICES = "block devices"
    NETWORK = "on a server"


class Can(enum.Flag):
    """What libvirt does to the volumes of a pool."""

    NOTHING = 0
    CREATE = enum.auto()
    RESIZE = enum.auto()
    UPLOAD = enum.auto()
    WIPE = enum.auto()
    DELETE = enum.auto()
    LAYER = enum.auto()
    COPY = enum.auto()
    # a way to wipe
    TRIM = enum.auto()
    # of a volume a layer over it in the same pool, which the storage itself makes
    CHILD = enum.auto()
    ALL = CREATE | RESIZE | UPLOAD | WIPE | DELETE | LAYER | COPY | TRIM | CHILD


# What tells a volume from another one of the same name: the file's inode and time of birth, a key that libvirt has from
# the storage itself (such as an LV's UUID), where on a disk it is, what the storage's own tool tells (see
# `kvmstate.host.own_ids`), or nothing but the path
Identity = Literal["inode", "key", "extent", "own", "path"]


@dataclass(frozen=True)
class PoolType:
    """One type. `formats` are those that libvirt's XML says of its volumes; where there are none all are raw, and the
    XML has no word for it. A capacity is rounded up by less than `unit` bytes. Volumes that are `sparse` take their
    space as it is written. `makes_folder`: libvirt's build makes a folder (of `fs` and `netfs` the mount point) and
    nothing else; that of the other types makes volume groups, labels and the like, and is run for `build` alone.
    `deletes`: libvirt deletes what the pool is on (its folder, its volume group).
    """

    name: str
    volumes: Volumes
    can: Can
    formats: tuple[str, ...] = ()
    # libvirt has qemu-img make images in whole KiB
    unit: int = 1024
    identity: Identity = "key"
    sparse: bool = False
    makes_folder: bool = False
    deletes: bool = False

    @property
    def own_layers(self) -> bool:
        """Whether a layer is of the storage's own, and no image of QEMU's."""
        return Can.CHILD in self.can and Can.LAYER not in self.can

    def knows(self, format_: str) -> bool:
        """Whether a volume may have this format."""
        return format_ in (self.formats or ("raw",))


IMAGES = ("raw", "qcow2", "iso")
_FILES, _DEVICES, _NETWORK = Volumes
_MADE = Can.CREATE | Can.UPLOAD | Can.DELETE
_SERVED = Can.CREATE | Can.RESIZE | Can.DELETE
_OF_FILES = Can.ALL & ~(Can.TRIM | Can.CHILD)

TYPES = {
    row.name: row
    for row in (
        PoolType("dir", _FILES, _OF_FILES, IMAGES, identity="inode", sparse=True, makes_folder=True, deletes=True),
        PoolType("fs", _FILES, _OF_FILES, IMAGES, identity="inode", sparse=True, makes_folder=True, deletes=True),
        PoolType("netfs", _FILES, _OF_FILES, IMAGES, identity="inode", sparse=True, makes_folder=True, deletes=True),
        PoolType("vstorage", _FILES, _OF_FILES, IMAGES, identity="inode", sparse=True),
        # extents of 4 MiB, unless the group was made with others
        PoolType("logical", _DEVICES, _MADE | Can.WIPE | Can.COPY, unit=4 << 20, deletes=True),
        # cylinders of up to 255 * 63 sectors, where the label is dos
        PoolType("disk", _DEVICES, _MADE | Can.WIPE | Can.COPY, unit=8 << 20, identity="extent"),
        # its key is the path until the pool is refreshed, and another one then
        PoolType("zfs", _DEVICES, _MADE, unit=16 << 10, identity="own", sparse=True),
        PoolType("iscsi", _DEVICES, Can.UPLOAD | Can.WIPE),
        PoolType("scsi", _DEVICES, Can.UPLOAD | Can.WIPE),
        PoolType("mpath", _DEVICES, Can.UPLOAD | Can.WIPE),
        PoolType("iscsi-direct", _NETWORK, Can.WIPE),
        PoolType("gluster", _NETWORK, Can.DELETE, IMAGES),
        PoolType("rbd", _NETWORK, _SERVED | Can.WIPE | Can.TRIM | Can.CHILD, ("raw",), identity="own", sparse=True),
        PoolType("sheepdog", _NETWORK, _SERVED, ("raw",), identity="path", sparse=True),
    )
}  # fmt: skip


# Where libvirt's XML has the format of an image, it has the type of a partition: to QEMU all of them are raw
PARTITIONS = ("none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended")


def image_format(said: str) -> str:
    """The format of an image, of what a volume's XML says."""
    return "raw" if said in PARTITIONS else said


def pool_type(name: str) -> PoolType:
    """The row of a type. Of one that is newer than this table nothing is ruled out, but what needs to be known."""
    return TYPES.get(name) or PoolType(name, Volumes.DEVICES, Can.ALL, IMAGES, sparse=True)
