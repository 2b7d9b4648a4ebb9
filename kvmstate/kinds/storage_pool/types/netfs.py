"""Pools of type netfs: https://libvirt.org/storage.html#network-filesystem-pool"""

import posixpath
from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Claim, Fault
from kvmstate.kinds.storage_pool.base import Folder, FolderPool, its_type, part
from kvmstate.kinds.storage_pool.types.source import server
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_path

NetFileSystemType = Literal["auto", "nfs", "glusterfs", "cifs"]


class Export(Section):
    host: str = server()
    dir: str = xml(
        "dir/@path",
        same=same_path,
        required=True,
        pattern=r"^[^\x00-\x1f]+$",
        effect=Effect.REPLACE,
        doc="The folder that it exports, or the name of a share (format cifs).",
    )
    format: NetFileSystemType | None = xml("format/@type", doc="Default: auto, which is NFS to mount.")


class NetFsPool(FolderPool):
    """A folder that a server exports, which is mounted as long as the pool is active."""

    needed = ("source", "target")

    type: Literal["netfs"] = its_type()
    source: Export | None = part("source", "What is mounted.")
    target: Folder | None = part("target", "Where it is mounted, in a folder that is made when it is missing.")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.source and self.source.format in (None, "auto", "nfs") and not self.source.dir.startswith("/"):
            message = f"{self.source.dir} is not an absolute path"
            yield Fault(("source", "dir"), message, "a share's name needs format: cifs")

    def claims(self) -> Iterator[Claim]:
        yield from super().claims()
        if self.source:
            export = f"{self.source.host.lower()}:{posixpath.normpath(self.source.dir)}"
            yield Claim(("source", "dir"), "the export", export)
