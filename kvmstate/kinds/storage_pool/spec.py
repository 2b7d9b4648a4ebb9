"""StoragePool: https://libvirt.org/formatstorage.html#storage-pool-xml"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import Field, model_validator

from kvmstate.kind import Claim, Fault, Form, Spec
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.model.pool_types import TYPES, PoolType, pool_type
from kvmstate.xmlbind import NeededRemainder, Section, xml
from kvmstate.xmlbind.codecs import same_case, same_path

# How full it is, and where there is room
VOLATILE = ("capacity", "allocation", "available", "source/device/freeExtent")
# the root folder, and what is not a disk's
_NO_POOL = {"", "dev", "proc", "run", "sys"}
# fmt: off
FileSystemType = Literal["auto", "ext2", "ext3", "ext4", "gfs", "gfs2", "hfs+", "iso9660", "ocfs2", "udf", "ufs",
                         "vfat", "vmfs", "xfs"]
# fmt: on
NetFileSystemType = Literal["auto", "nfs", "glusterfs", "cifs"]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f]*$")]


def _same_mode(want: str, seen: str) -> bool:
    return seen is not None and int(want, 8) == int(seen, 8)


class Permissions(Section):
    mode: str | None = xml("mode", same=_same_mode, pattern="^[0-7]{3,4}$", doc="Octal.")
    owner: int | None = xml("owner", ge=0, doc="Numeric user id.")
    group: int | None = xml("group", ge=0, doc="Numeric group id.")


class Folder(Section):
    path: AbsolutePath = xml("path", same=same_path, required=True, effect=Effect.REPLACE, doc="A folder of the host.")


class Target(Folder):
    permissions: Permissions | None = xml(
        "permissions", doc="Of the folder, set when the pool is started; without them one that exists stays as it is."
    )


class PoolSpec(Spec):
    """What pools of every type have. Of the sections that are `needed` a remainder may have all as well: it did before
    there were fields for them."""

    element: ClassVar[str] = "pool"
    needed: ClassVar[tuple[str, ...]] = ()
    active: bool = field(True, effect=Effect.LIVE, doc="Whether the pool is started.")
    autostart: bool | None = field(effect=Effect.LIVE, doc="Started when the host boots.")
    if TYPE_CHECKING:
        type: str

    @model_validator(mode="after")
    def _whole(self) -> PoolSpec:
        missing = [name for name in self.needed if getattr(self, name) is None]
        if missing and not self.remainder:
            raise ValueError(f"a pool of type {self.type} needs {missing[0]}")
        return self

    def status(self) -> str:
        return "active" if self.active else "inactive"

    def keeps(self) -> PoolType:
        return pool_type(self.type)


class FolderPool(PoolSpec):
    """What pools of files have, which are in one folder."""

    if TYPE_CHECKING:
        target: Folder | Target | None

    def place(self) -> str | None:
        return posixpath.normpath(self.target.path) if self.target else None

    def faults(self) -> Iterator[Fault]:
        if not self.target:
            return
        path, at = self.target.path, ("target", "path")
        if {".", ".."} & {*path.split("/")}:
            yield Fault(at, f"{path} goes by way of . or ..", f"write {posixpath.normpath(path)}")
        elif posixpath.normpath(path).lstrip("/") in _NO_POOL:
            yield Fault(at, f"{path} is not a folder for volumes", "such as /var/lib/libvirt/images")

    def claims(self) -> Iterator[Claim]:
        if self.target:
            yield _claim(("target", "path"), "the folder", self.target.path)


def _claim(at: tuple[str, ...], what: str, path: str) -> Claim:
    return Claim(at, what, "/" + posixpath.normpath(path).lstrip("/"))


class DirPool(FolderPool):
    """A folder of the host's. It is made when it is missing, and never removed with the pool."""

    xml_variant: ClassVar[str] = "dir"

    type: Literal["dir"] = xml("@type", required=True, effect=Effect.REPLACE, doc="The type of the pool.")
    target: Target = xml("target", required=True, doc="Where the volumes are on the host.")


class FileSystem(Section):
    device: AbsolutePath = xml(
        "device/@path",
        same=same_path,
        required=True,
        effect=Effect.REPLACE,
        doc="A block device of the host, whose file system is there already.",
    )
    format: FileSystemType | None = xml("format/@type", doc="Default: auto, as mount finds it.")


class FsPool(FolderPool):
    """A file system on a block device, which is mounted as long as the pool is active. It is never made."""

    xml_variant: ClassVar[str] = "fs"
    needed = ("source", "target")

    type: Literal["fs"] = xml("@type", required=True, effect=Effect.REPLACE, doc="The type of the pool.")
    source: FileSystem | None = xml("source", doc="What is mounted: needed, unless remainder has it.")
    target: Folder | None = xml(
        "target", doc="Where it is mounted: needed, unless remainder has it. The folder is made when it is missing."
    )

    def claims(self) -> Iterator[Claim]:
        yield from super().claims()
        if self.source:
            yield _claim(("source", "device"), "the device", self.source.device)


class Export(Section):
    host: str = xml(
        "host/@name",
        same=same_case,
        required=True,
        pattern=r"^[^-\s/][^\s/]*$",
        effect=Effect.REPLACE,
        doc="The server's name or address.",
    )
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

    xml_variant: ClassVar[str] = "netfs"
    needed = ("source", "target")

    type: Literal["netfs"] = xml("@type", required=True, effect=Effect.REPLACE, doc="The type of the pool.")
    source: Export | None = xml("source", doc="What is mounted: needed, unless remainder has it.")
    target: Folder | None = xml(
        "target", doc="Where it is mounted: needed, unless remainder has it. The folder is made when it is missing."
    )

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


# A section for each type that manifests have fields for
SECTIONS = (DirPool, FsPool, NetFsPool)
if TYPE_CHECKING:
    OtherType = str
else:
    OtherType = Literal[tuple(sorted(TYPES.keys() - {section.xml_variant for section in SECTIONS}))]


class OtherPool(PoolSpec):
    """A pool of another type. Its source and target are in `remainder`, as `kvmstate import` writes them."""

    type: OtherType = xml("@type", required=True, effect=Effect.REPLACE, doc="The type of the pool.")
    remainder: NeededRemainder = field(
        required=True,
        doc="The pool's XML with its <source> and <target>, as `virsh pool-dumpxml` prints it and `kvmstate import` "
        "writes it: no field models these for this type.",
    )


# `variant` takes the first one for what no other says is its own
MEMBERS: tuple[type[PoolSpec], ...] = (OtherPool, *SECTIONS)
StoragePoolSpec: Any = Annotated[Union[MEMBERS], Field(discriminator="type")]  # noqa: UP007


FORM = Form(StoragePoolSpec, VOLATILE)
