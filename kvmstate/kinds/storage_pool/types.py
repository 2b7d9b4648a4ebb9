"""A section for each type of storage pools: https://libvirt.org/storage.html"""

import posixpath
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kvmstate.kind import Claim, Fault
from kvmstate.kinds.storage_pool.base import AbsolutePath, Folder, FolderPool, PoolSpec, Target, claim, its_type, part
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import YES_NO, same_case, same_path

# fmt: off
FileSystemType = Literal["auto", "ext2", "ext3", "ext4", "gfs", "gfs2", "hfs+", "iso9660", "ocfs2", "udf", "ufs",
                         "vfat", "vmfs", "xfs"]
LabelType = Literal["unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"]
# fmt: on
NetFileSystemType = Literal["auto", "nfs", "glusterfs", "cifs"]
Name = Annotated[str, Field(pattern=r"^[^\s/][^\x00-\x1f/]*$")]
QualifiedName = Annotated[str, Field(pattern=r"^(iqn|eui|naa)\.[^\s]+$", examples=["iqn.2026-01.example.nas:images"])]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


def server(path: str = "host/@name") -> Any:
    """Declare the server that has the volumes."""
    return xml(
        path,
        same=same_case,
        required=True,
        pattern=r"^[^-\s/][^\s/]*$",
        effect=Effect.REPLACE,
        doc="The server's name or address.",
    )


def port(path: str = "host/@port") -> Any:
    """Declare its port."""
    return xml(path, ge=1, le=65535, doc="Its port. Default: that of the protocol.")


def device(path: str, doc: str) -> Any:
    """Declare a block device of the host."""
    return xml(path, same=same_path, required=True, effect=Effect.REPLACE, doc=doc)


class DirPool(FolderPool):
    """A folder of the host's. It is made when it is missing, and never removed with the pool."""

    xml_variant: ClassVar[str] = "dir"

    type: Literal["dir"] = its_type()
    target: Target = xml("target", required=True, doc="Where the volumes are on the host.")


class FileSystem(Section):
    device: AbsolutePath = device("device/@path", "A block device of the host, whose file system is there already.")
    format: FileSystemType | None = xml("format/@type", doc="Default: auto, as mount finds it.")


class FsPool(FolderPool):
    """A file system on a block device, which is mounted as long as the pool is active. It is never made."""

    xml_variant: ClassVar[str] = "fs"
    needed = ("source", "target")

    type: Literal["fs"] = its_type()
    source: FileSystem | None = part("source", "What is mounted.")
    target: Folder | None = part("target", "Where it is mounted, in a folder that is made when it is missing.")

    def claims(self) -> Iterator[Claim]:
        yield from super().claims()
        if self.source:
            yield claim(("source", "device"), "the device", self.source.device)


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

    xml_variant: ClassVar[str] = "netfs"
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


class VolumeGroup(Section):
    name: Name | None = xml("name", effect=Effect.REPLACE, doc="The volume group. Default: the pool's name.")
    format: Literal["lvm2"] | None = xml("format/@type", doc="Default: lvm2.")


class LogicalPool(PoolSpec):
    """An LVM volume group, which is there already. It is activated and never made."""

    xml_variant: ClassVar[str] = "logical"

    type: Literal["logical"] = its_type()
    source: VolumeGroup | None = xml("source", doc="The volume group.")

    def claims(self) -> Iterator[Claim]:
        if self.source and self.source.name:
            yield Claim(("source", "name"), "the volume group", self.source.name)


class Disk(Section):
    device: AbsolutePath = device("device/@path", "A disk of the host, which has a label already.")
    part_separator: bool | None = xml(
        "device/@part_separator", YES_NO, doc="Whether the names of its partitions have a p before their number."
    )
    format: LabelType | None = xml("format/@type", doc="Its label.")


class DiskPool(PoolSpec):
    """The partitions of a disk."""

    xml_variant: ClassVar[str] = "disk"
    needed = ("source", "target")

    type: Literal["disk"] = its_type()
    source: Disk | None = part("source", "The disk.")
    target: Folder | None = part("target", "Where the host has its partitions: /dev, or a folder below /dev/disk.")

    def claims(self) -> Iterator[Claim]:
        if self.source:
            yield claim(("source", "device"), "the device", self.source.device)


class SecretOf(Section):
    """A secret that the host has, see `virsh secret-list`."""

    usage: str | None = xml("@usage", pattern=r"^[^\x00-\x1f]+$", doc="By what it is for.")
    uuid: Uuid | None = xml("@uuid", same=same_case, doc="Or by its UUID.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.usage is None) is (self.uuid is None):
            raise ValueError("a secret is named by its usage, or by its uuid")
        return self


class Login(Section):
    """Who the host is to the server. The password is a secret of libvirt's."""

    username: str = xml("@username", required=True, pattern=r"^[^\x00-\x1f]+$", doc="The user.")
    secret: SecretOf = xml("secret", required=True, doc="The secret with the password, or the key.")


class Chap(Login):
    type: Literal["chap"] = xml("@type", default="chap", doc="How the password is shown.")


class Cephx(Login):
    type: Literal["ceph"] = xml("@type", default="ceph", doc="How the key is shown.")


class IscsiTarget(Section):
    host: str = server()
    port: int | None = port()
    device: QualifiedName = xml("device/@path", required=True, effect=Effect.REPLACE, doc="The target's name.")
    initiator: QualifiedName | None = xml("initiator/iqn/@name", doc="The name by which the host logs in.")
    auth: Chap | None = xml("auth", doc="Without it the host logs in as nobody.")


class DirectTarget(IscsiTarget):
    initiator: QualifiedName = xml("initiator/iqn/@name", required=True, doc="The name by which QEMU logs in.")


class _Iscsi(PoolSpec):
    def _claim(self, source: IscsiTarget | None) -> Iterator[Claim]:
        if source:
            yield Claim(("source", "device"), "the target", f"{source.host.lower()} {source.device}")


class IscsiPool(_Iscsi):
    """The LUNs of an iSCSI target, which the host logs in to as long as the pool is active."""

    xml_variant: ClassVar[str] = "iscsi"
    needed = ("source", "target")

    type: Literal["iscsi"] = its_type()
    source: IscsiTarget | None = part("source", "The target.")
    target: Folder | None = part("target", "Where the host has its LUNs: /dev/disk/by-path stays as it is.")

    def claims(self) -> Iterator[Claim]:
        yield from self._claim(self.source)


class IscsiDirectPool(_Iscsi):
    """The LUNs of an iSCSI target, which QEMU logs in to by itself."""

    xml_variant: ClassVar[str] = "iscsi-direct"
    needed = ("source",)

    type: Literal["iscsi-direct"] = its_type()
    source: DirectTarget | None = part("source", "The target.")

    def claims(self) -> Iterator[Claim]:
        yield from self._claim(self.source)


class Adapter(Section):
    """A SCSI host, by its name, or a Fibre Channel one, by its world-wide names."""

    type: Literal["scsi_host", "fc_host"] = xml("@type", required=True, effect=Effect.REPLACE, doc="What it is.")
    name: str | None = xml(
        "@name", pattern=r"^(scsi_)?host[0-9]+$", effect=Effect.REPLACE, doc="Of a scsi_host, such as host0."
    )
    parent: str | None = xml("@parent", pattern=r"^[^\s]+$", doc="Of an fc_host: what its virtual port is made on.")
    managed: bool | None = xml("@managed", YES_NO, doc="Whether that port goes when the pool stops.")
    wwnn: str | None = xml("@wwnn", same=same_case, pattern="^[0-9a-fA-F]{16}$", effect=Effect.REPLACE, doc="Its node.")
    wwpn: str | None = xml("@wwpn", same=same_case, pattern="^[0-9a-fA-F]{16}$", effect=Effect.REPLACE, doc="Its port.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        lacking = [] if self.type == "fc_host" else ["name"] if self.name is None else []
        if self.type == "fc_host":
            lacking = [name for name in ("wwnn", "wwpn") if getattr(self, name) is None]
        if lacking:
            raise ValueError(f"an adapter of type {self.type} needs {lacking[0]}")
        return self


class Scsi(Section):
    adapter: Adapter = xml("adapter", required=True, doc="The adapter.")


class ScsiPool(PoolSpec):
    """The LUNs of a SCSI adapter of the host."""

    xml_variant: ClassVar[str] = "scsi"

    type: Literal["scsi"] = its_type()
    needed = ("source", "target")

    source: Scsi | None = part("source", "The adapter.")
    target: Folder | None = part("target", "Where the host has its LUNs, such as /dev/disk/by-path.")


class MpathPool(PoolSpec):
    """The multipath devices of the host: one pool has all of them."""

    xml_variant: ClassVar[str] = "mpath"
    needed = ("target",)

    type: Literal["mpath"] = its_type()
    target: Folder | None = part("target", "Where the host has them: /dev/mapper.")


class GlusterVolume(Section):
    host: str = server()
    port: int | None = port()
    name: Name = xml("name", required=True, effect=Effect.REPLACE, doc="The Gluster volume.")
    dir: AbsolutePath | None = xml(
        "dir/@path", same=same_path, effect=Effect.REPLACE, doc="A folder in it. Default: /."
    )


class GlusterPool(PoolSpec):
    """The images on a Gluster volume, which QEMU opens by itself."""

    xml_variant: ClassVar[str] = "gluster"
    needed = ("source",)

    type: Literal["gluster"] = its_type()
    source: GlusterVolume | None = part("source", "The volume.")


class Monitor(Section):
    name: str = server("@name")
    port: int | None = port("@port")


class CephPool(Section):
    name: Name = xml("name", required=True, effect=Effect.REPLACE, doc="The Ceph pool.")
    hosts: list[Monitor] = xml_list("host", key="name", doc="The monitors.")
    auth: Cephx | None = xml("auth", doc="Without it the cluster must ask nobody who he is.")


class RbdPool(PoolSpec):
    """The images of a Ceph pool, which QEMU opens by itself."""

    xml_variant: ClassVar[str] = "rbd"
    needed = ("source",)

    type: Literal["rbd"] = its_type()
    source: CephPool | None = part("source", "The Ceph pool.")


class Zpool(Section):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z][^\s]*$")] | None = xml(
        "name", effect=Effect.REPLACE, doc="The zpool, or a file system in it. Default: the pool's name."
    )


class ZfsPool(PoolSpec):
    """The volumes of a zpool, which is there already."""

    xml_variant: ClassVar[str] = "zfs"

    type: Literal["zfs"] = its_type()
    source: Zpool | None = xml("source", doc="The zpool.")

    def claims(self) -> Iterator[Claim]:
        if self.source and self.source.name:
            yield Claim(("source", "name"), "the zpool", self.source.name)
