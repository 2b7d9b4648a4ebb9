"""Pools of type fs: https://libvirt.org/storage.html#filesystem-pool"""

from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Claim
from kvmstate.kinds.storage_pool.base import AbsolutePath, Folder, FolderPool, claim, its_type, part
from kvmstate.kinds.storage_pool.types.source import device
from kvmstate.xmlbind import Section, xml

# fmt: off
FileSystemType = Literal["auto", "ext2", "ext3", "ext4", "gfs", "gfs2", "hfs+", "iso9660", "ocfs2", "udf", "ufs",
                         "vfat", "vmfs", "xfs"]
# fmt: on


class FileSystem(Section):
    device: AbsolutePath = device(
        "device/@path", "A block device of the host. Its file system is there already, unless `build` makes it."
    )
    format: FileSystemType | None = xml("format/@type", doc="Default: auto, as mount finds it.")


class FsPool(FolderPool):
    """A file system on a block device, which is mounted as long as the pool is active."""

    needed = ("source", "target")
    builds = ("mkdir", "ifEmpty", "overwrite", "never")

    type: Literal["fs"] = its_type()
    source: FileSystem | None = part("source", "What is mounted.")
    target: Folder | None = part("target", "Where it is mounted, in a folder that is made when it is missing.")

    def devices(self) -> list[str]:
        return [self.source.device] if self.source else []

    def lacks(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.source and self.source.format in (None, "auto"):
            yield ("source",), "source.format"

    def claims(self) -> Iterator[Claim]:
        yield from super().claims()
        if self.source:
            yield claim(("source", "device"), "the device", self.source.device)
