"""Disks and CD-ROM drives: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms"""

import string
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine.devices import (
    Auth,
    DiskEncryption,
    Geometry,
    Iotune,
    Label,
    NetworkSource,
    NvmeSource,
    Reservations,
    Slice,
    Thread,
    VhostUserSource,
    Virtio,
)
from kvmstate.kinds.virtual_machine.devices.backing import CHAIN, END, Chain
from kvmstate.kinds.virtual_machine.devices.base import (
    LOADPARM,
    Device,
    DeviceName,
    Owner,
    in_remainder,
    item_named,
    named,
    of_type,
    parent_of,
    placing,
)
from kvmstate.model.effect import Effect, When
from kvmstate.model.field import field
from kvmstate.model.quantity import Size
from kvmstate.model.reference import Lookup, VolumeRef
from kvmstate.model.resource import Resource
from kvmstate.xmlbind import Element, Section, disk_source, later, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, present, same_flag, same_path, size

if TYPE_CHECKING:

    class DiskVolume(Section):
        """A Volume's spec: kinds do not import each other."""

        pool: str

        def declared(self, by: Resource, disk: str) -> Resource: ...

else:
    DiskVolume = later("kvmstate.kinds.volume.inner", "DiskVolume")

MEDIUM = When("device", ("cdrom",), then=Effect.LIVE, otherwise=Effect.RESTART)
Bus = Literal["virtio", "sata", "scsi", "ide", "usb", "fdc"]
Format = Literal["raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "luks", "bochs", "cloop", "dmg", "fat"]
# How libvirt calls the disks of each bus
BUS_PREFIX = {"virtio": "vd", "sata": "sd", "scsi": "sd", "usb": "sd", "ide": "hd", "fdc": "fd"}


def _path(disk: etree._Element, lookup: Lookup) -> str:
    """The file or device that a disk shows, also when the XML names a volume; empty where nobody knows."""
    source = disk_source.read(disk)
    if source is None:
        return ""
    found = lookup.path_of(source.pool, source.volume) if source.pool and lookup else None
    return found[1] if found else source.path


def _read_volume(node: etree._Element, lookup: Lookup) -> VolumeRef | None:
    source = disk_source.read(parent_of(node))
    if source is None or lookup is None:
        return None
    if source.pool:
        return VolumeRef.of(source.pool, source.volume)
    return lookup.volume_at(source.path) if source.path else None


def _write_volume(node: etree._Element, value: VolumeRef | None, lookup: Lookup) -> None:
    if value is None:
        parent_of(node).remove(node)
        return
    disk, source = parent_of(node), lookup.volume_source(value)
    by_name = (value.pool, value.name) if disk.get("type") == "volume" else None
    disk_source.write(disk, source.type, source.path, source.format, by_name)


def _read_by_name(disk: etree._Element, lookup: Lookup) -> bool | None:
    return disk.get("type") == "volume" or None


def _write_by_name(disk: etree._Element, value: bool | None, lookup: Lookup) -> None:
    """Before the volume is written, which asks for the type."""
    if value:
        disk.set("type", "volume")
    elif (source := disk_source.read(disk)) and source.pool and (place := lookup.path_of(source.pool, source.volume)):
        disk_source.write(disk, *place, None)


def _read_file(node: etree._Element, lookup: Lookup) -> str | None:
    path = _path(parent_of(node), lookup)
    return lookup.original(path)[0] if path and lookup else path or None


def _write_file(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value is None:
        parent_of(node).remove(node)
    else:
        disk_source.write(parent_of(node), "block" if value.startswith("/dev/") else "file", value, None)


def _read_format(driver: etree._Element, lookup: Lookup) -> str | None:
    found, path = driver.get("type"), _path(parent_of(driver), lookup)
    return lookup.original(path, found)[1] if path and found and lookup else found


def _write_format(driver: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value and _read_format(driver, lookup) != value:
        driver.set("type", value)


VOLUME = Element(_read_volume, _write_volume)
FILE = Element(_read_file, _write_file)
FORMAT = Element(_read_format, _write_format)
BY_NAME = Element(_read_by_name, _write_by_name)


class Disk(Device):
    """A disk, or a drive for CD-ROMs or floppies."""

    tag = "disk"
    only = {
        "type": ("file", "block", "volume", "network", "nvme", "vhostuser", "vhostvdpa", "dir"),
        "device": ("disk", "cdrom", "floppy", "lun"),
    }
    made_with = {"driver/@name": "qemu"}
    swaps = ("source", "driver")
    volatile = (".//source/@index",)

    name: DeviceName = xml(".", named("target/@dev"), required=True)
    device: Literal["disk", "cdrom", "floppy", "lun"] = xml(
        "@device", default="disk", doc="A disk, a drive, or a disk of the host's that the guest talks SCSI with (lun)."
    )
    volume_by_name: bool | None = xml(
        ".",
        BY_NAME,
        same=same_flag,
        doc="Whether libvirt has the volume by its pool and name, and looks for it with each start (type volume), not "
        "by its path. AppArmor may keep such a machine from starting.",
    )
    volume: VolumeRef | None = xml(
        "source",
        VOLUME,
        ref="volume",
        effect=MEDIUM,
        doc="The volume that it shows. A CD-ROM drive without one is empty; its medium changes live.",
    )
    create: DiskVolume | None = field(
        doc="Instead of `volume`: what a Volume document says of one. It is a volume of its own, and stays when the "
        "machine goes, unless its lifecycle says otherwise."
    )
    file: str | None = xml(
        "source",
        FILE,
        same=same_path,
        effect=MEDIUM,
        pattern="^/",
        doc="Instead of a volume: an image file or block device of the host, by its path.",
    )
    network: NetworkSource | None = xml("source", shared=True, doc="Instead: an image that a server has.")
    nvme: NvmeSource | None = xml("source", shared=True, doc="Instead: an NVMe disk of the host's, without its driver.")
    vhost_user: VhostUserSource | None = xml("source", shared=True, doc="Instead: a disk that another process serves.")
    vdpa: str | None = xml(
        "source", of_type("vhostvdpa", "dev"), same=same_path, pattern="^/dev/", doc="Instead: a vDPA device."
    )
    folder: str | None = xml(
        "source",
        of_type("dir", "dir"),
        same=same_path,
        pattern="^/",
        doc="Instead: a folder of the host's, which the guest sees as a FAT file system (format fat).",
    )
    format: Format | None = xml(
        "driver/@type", FORMAT, lasting=True, doc="Of what is in the file. A volume knows its own."
    )
    bus: Bus | None = xml("target/@bus", placing("bus"), lasting=True, doc="The bus it is on.")
    target: str | None = xml(
        "target/@dev",
        lasting=True,
        unique=True,
        pattern="^(vd|sd|hd|fd)[a-z]+$",
        doc="The device name, such as vda. Default: the next that is free.",
    )
    cache: Literal["default", "none", "writethrough", "writeback", "directsync", "unsafe"] | None = xml(
        "driver/@cache", doc="QEMU's cache mode."
    )
    io: Literal["threads", "native", "io_uring"] | None = xml(
        "driver/@io", doc="How QEMU does input and output; native needs cache none or directsync."
    )
    discard: Literal["unmap", "ignore"] | None = xml("driver/@discard", doc="Whether TRIM reaches the image.")
    detect_zeroes: Literal["off", "on", "unmap"] | None = xml("driver/@detect_zeroes", doc="Zeros are not stored.")
    copy_on_read: bool | None = xml("driver/@copy_on_read", ON_OFF, doc="What is read from a base is kept above it.")
    error_policy: Literal["stop", "report", "ignore", "enospace"] | None = xml(
        "driver/@error_policy", doc="What becomes of the guest when a write fails."
    )
    rerror_policy: Literal["stop", "report", "ignore"] | None = xml(
        "driver/@rerror_policy", doc="What becomes of the guest when a read fails. Default: errorPolicy."
    )
    ioeventfd: bool | None = xml("driver/@ioeventfd", ON_OFF, doc="virtio only.")
    event_idx: bool | None = xml("driver/@event_idx", ON_OFF, doc="virtio only.")
    iothread: int | None = xml("driver/@iothread", ge=1, doc="Which of `iothreads` serves it; virtio only.")
    threads: list[Thread] = xml_list(
        "driver/iothreads/iothread", key="id", doc="Instead of iothread: several that share its queues; virtio only."
    )
    queues: int | None = xml("driver/@queues", ge=1, le=1024, doc="How many CPUs share it; virtio only.")
    queue_size: int | None = xml("driver/@queue_size", ge=2, le=1024, doc="A power of two; virtio only.")
    virtio: Virtio | None = xml("driver", shared=True)
    model: Literal["virtio", "virtio-transitional", "virtio-non-transitional"] | None = xml("@model", lasting=True)
    serial: str | None = xml("serial", max_length=247, doc="As the guest sees it; most buses show 20 characters.")
    wwn: str | None = xml("wwn", pattern="^[0-9a-fA-F]{16}$", doc="Its world wide name.")
    vendor: str | None = xml("vendor", max_length=8, doc="SCSI only.")
    product: str | None = xml("product", max_length=16, doc="SCSI only.")
    rotation_rate: int | None = xml("target/@rotation_rate", ge=1, le=65534, doc="1 for an SSD; sata and scsi only.")
    removable: bool | None = xml("target/@removable", ON_OFF, doc="usb only.")
    tray: Literal["open", "closed"] | None = xml("target/@tray", lasting=True, doc="Of drives.")
    logical_block_size: int | None = xml("blockio/@logical_block_size", ge=512, doc="In bytes.")
    physical_block_size: int | None = xml("blockio/@physical_block_size", ge=512, doc="In bytes.")
    discard_granularity: int | None = xml("blockio/@discard_granularity", ge=0, doc="In bytes.")
    geometry: Geometry | None = xml("geometry")
    iotune: Iotune | None = xml("iotune", in_parts=True)
    throttle_filters: list[str] = xml_list(
        "throttlefilters/throttlefilter/@group", doc="Which of `throttleGroups` limit it."
    )
    encryption: DiskEncryption | None = xml("source/encryption")
    outer_encryption: DiskEncryption | None = xml("encryption", doc="As encryption, where older documents say it.")
    outer_auth: Auth | None = xml("auth", doc="As network.auth, where older documents say it.")
    volume_mode: Literal["direct", "host"] | None = xml(
        "source/@mode",
        lasting=True,
        doc="Of a volume in an iSCSI pool, by name: whether QEMU logs in, or the host has.",
    )
    labels: list[Label] = xml_list("source/seclabel", key="model", doc="Its own, instead of the machine's `seclabels`.")
    reservations: Reservations | None = xml("source/reservations", doc="Of device lun.")
    slice: Slice | None = xml("source/slices/slice", doc="The part of the image that is shown.")
    metadata_cache: Size | None = xml(
        "driver/metadata_cache/max_size", size("bytes"), gt=0, doc="How much QEMU keeps of a qcow2 image's tables."
    )
    rawio: bool | None = xml("@rawio", doc="Of device lun: QEMU may send raw commands.")
    sgio: Literal["filtered", "unfiltered"] | None = xml("@sgio", doc="Of device lun.")
    snapshot: Literal["internal", "external", "no", "manual"] | None = xml(
        "@snapshot", lasting=True, effect=Effect.LIVE, doc="Whether snapshots take it along."
    )
    startup_policy: Literal["mandatory", "requisite", "optional"] | None = xml(
        "source/@startupPolicy", effect=Effect.LIVE, doc="What happens when the medium is not there."
    )
    backing: Chain | None = xml(".", CHAIN, doc="The images below it, from the top. Default: as each image says.")
    backing_store: Literal["none"] | None = xml(
        ".", END, doc="none: the image, or the last of `backing`, has no base, and is not asked."
    )
    transient: bool | None = xml(".", present("transient"), same=same_flag, doc="What is written goes with its end.")
    read_only: bool | None = xml(".", present("readonly"), same=same_flag, doc="Whether the guest may only read it.")
    shareable: bool | None = xml(
        ".",
        present("shareable"),
        same=same_flag,
        doc="Whether other machines may write to it at the same time, which their guests must be made for (a cluster's "
        "file system). Raw images only; it is in no snapshot.",
    )
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")
    boot_loadparm: str | None = xml("boot/@loadparm", pattern=LOADPARM, doc="What is booted from it, on s390x.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.create and self.volume:
            raise ValueError("a disk has either create or volume, not both")
        if len(self._sources()) > 1:
            raise ValueError("a disk has either volume or file, not both")
        if self.shareable and self.read_only:
            raise ValueError("a disk is either shareable or readOnly, not both")
        if self.shareable and self.format not in ("raw", None):
            raise ValueError(f"a shareable disk has format raw: QEMU shares no {self.format} image")
        if self.target and self.bus and not self.target.startswith(BUS_PREFIX[self.bus]):
            raise ValueError(f"a target on bus {self.bus} starts with {BUS_PREFIX[self.bus]}, unlike {self.target}")
        return self

    def _sources(self) -> list[object]:
        others = (self.network, self.nvme, self.vhost_user, self.vdpa, self.folder)
        return [source for source in (self.volume, self.create, self.file, *others) if source is not None]

    def apart(self, machine: Resource) -> tuple[Self, Resource]:
        """The disk as one of the volume that it declares, and that."""
        assert self.create
        volume = self.create.declared(machine, self.name)
        disk = self.model_copy(update={"volume": VolumeRef.parse(volume.id.name), "create": None})
        disk.model_fields_set.discard("create")
        return disk, volume

    def faults(self, machine: Any, at: tuple[str | int, ...]) -> Iterator[Fault]:
        if self.device in ("disk", "lun") and not self._sources() and not in_remainder(machine, at):
            yield Fault(at, "a disk needs a volume or a file")
        if self.volume_by_name and not (self.volume or self.create) and not in_remainder(machine, at):
            yield Fault((*at, "volumeByName"), "volumeByName needs a volume")
        if self.volume_mode and not self.volume_by_name and not in_remainder(machine, at):
            yield Fault(
                (*at, "volumeMode"), "volumeMode is of volumes that libvirt has by name", "write volumeByName: true"
            )
        if self.bus == "ide" and "q35" in (machine.machine or ""):
            yield Fault(
                (*at, "bus"),
                f"disks[{self.name}].bus is ide, which a q35 machine does not have",
                "write bus: sata, and a target such as sda",
            )
        if self.read_only and self.device == "disk" and (bus := self.bus or _bus_of(self, None)) in ("ide", "sata"):
            yield Fault(
                (*at, "readOnly"),
                f"disks[{self.name}] is on {bus}, where QEMU has no disk that is only read",
                "write bus: virtio or scsi, or device: cdrom",
            )

    @classmethod
    def omit(cls, root: etree._Element) -> None:
        """An empty drive is one of a file."""
        for disk in root.findall("devices/disk[@type='file']"):
            if disk.find("source") is None:
                del disk.attrib["type"]

    @classmethod
    def completed(cls, wanted: Sequence[Any], seen: Sequence[object], owner: Owner) -> Sequence[object]:
        """New disks get a device name and a bus; those that exist keep theirs unless the manifest names others."""
        taken = {disk.target for disk in [*wanted, *seen] if disk.target}
        return [disk.model_copy(update=placed(disk, item_named(seen, disk.name), taken)) for disk in wanted]


def placed(disk: Disk, old: Disk | None, taken: set[str]) -> dict[str, str]:
    """Bus and device name of a disk that is new, or moves: what its manifest names, and else what goes with that."""
    if old and disk.bus in (None, old.bus) and disk.target in (None, old.target):
        return {}
    bus = disk.bus or _bus_of(disk, old)
    named = disk.target or (old.target if old else None) or ""
    target = named if named.startswith(BUS_PREFIX[bus]) else free_target(BUS_PREFIX[bus], taken)
    taken.add(target)
    return {"bus": bus, "target": target}


def _bus_of(disk: Disk, old: Disk | None) -> str:
    prefix = (disk.target or "")[:2]
    if old and old.bus and prefix == BUS_PREFIX.get(old.bus):
        return old.bus
    unsaid = {"cdrom": "sata", "floppy": "fdc", "lun": "scsi"}.get(disk.device, "virtio")
    return {"vd": "virtio", "hd": "ide", "sd": "sata", "fd": "fdc"}.get(prefix, unsaid)


def free_target(prefix: str, taken: set[str]) -> str:
    """vda, vdb, … vdz, vdaa, …"""
    letters = string.ascii_lowercase
    names = (prefix + "".join(tail) for length in (1, 2) for tail in product(letters, repeat=length))
    return next(name for name in names if name not in taken)
