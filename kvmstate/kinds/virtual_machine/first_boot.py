"""What tells a machine what to do at its first boot: drives, the volumes that are in them, the firmware's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kvmstate.kind import Fault, Unclear
from kvmstate.kinds.virtual_machine.devices.base import Owner
from kvmstate.kinds.virtual_machine.devices.controller import Controller
from kvmstate.kinds.virtual_machine.devices.disk import Disk
from kvmstate.kinds.virtual_machine.devices.interface import as_libvirt_has, guests
from kvmstate.kinds.virtual_machine.settings.cloud_init import DISK, digest
from kvmstate.xmlbind import owning

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec

# What the drive with other files is called
FIRST_BOOT = "first-boot"
S = TypeVar("S", bound="VirtualMachineSpec")


def told(machine: S, name: str, project: str) -> S:
    """The machine as libvirt has it: with drives, and a text for the firmware's device, in place of what its guest is
    told by them. Raises Unclear where it does not say in which pool a seed is, or has such a disk already."""
    if machine.cloud_init:
        update: dict[str, Any] = {}
        if "interfaces" in machine.model_fields_set:
            update["interfaces"] = [as_libvirt_has(nic) for nic in machine.interfaces]
        seed = machine.cloud_init.seed(name, [*guests(machine.interfaces, Owner(project, name))])
        if machine.cloud_init.on_change == "replace":
            update["disks"] = _made_for(machine.disks, digest(seed))
        drive = _drive(machine, name, seed)
        machine = _with(machine.model_copy(update=update), drive, "cloudInit")
    ignition, combustion = machine.ignition, machine.combustion
    if ignition and ignition.by == "fwCfg":
        machine = machine.model_copy(update={"ignition_text": ignition.text})
    files = {}
    if ignition and ignition.by == "drive":
        files["ignition/config.ign"] = ignition.text
    if combustion:
        files["combustion/script"] = combustion.script or ""
    if files:
        pool = (combustion and combustion.pool) or (ignition and ignition.pool)
        said = {"label": "combustion" if combustion else "ignition", "files": files, "onChange": "ignore"}
        volume = _seed_in(pool or _pool(machine, place(machine, FIRST_BOOT)), said)
        disk = {"name": FIRST_BOOT, "device": "cdrom", "bus": "scsi", "create": volume}
        machine = _with(machine, Disk.model_validate(disk), place(machine, FIRST_BOOT))
    return owning(machine, *(machine.model_fields_set - {"cloud_init", "ignition", "combustion"}))


def place(machine: VirtualMachineSpec, drive: str) -> str:
    """The field that declares this drive."""
    return "cloudInit" if drive == DISK else "combustion" if machine.combustion else "ignition"


def _with(machine: S, drive: Disk, field: str) -> S:
    if any(disk.name == drive.name for disk in machine.disks):
        why = f"the disk of the name {drive.name} is that of {field}"
        raise Unclear(Fault(("disks",), why, "give the other one another name"))
    update: dict[str, Any] = {"disks": [*machine.disks, drive]}
    if drive.bus == "scsi" and not _has_scsi(machine):
        # libvirt's own choice is a model that kernels for clouds have no driver for
        update["controllers"] = [*machine.controllers, Controller(name="scsi0", model="virtio-scsi")]
    return machine.model_copy(update=update)


def _seed_in(pool: str, seed: dict[str, Any]) -> dict[str, Any]:
    """A volume that holds nothing which its manifest does not say."""
    allowed = {"deletion": "delete", "replace": "allow"}
    return {"pool": pool, "format": "iso", "content": {"seed": seed}, "lifecycle": allowed}


def _has_scsi(machine: VirtualMachineSpec) -> bool:
    return any(each.type == "scsi" for each in machine.controllers) or any(d.bus == "scsi" for d in machine.disks)


def _made_for(disks: list[Disk], seed: str) -> list[Disk]:
    """The disks, of which those that begin with an image are of this seed. What is empty at first holds data."""

    def begins(disk: Disk) -> bool:
        made: Any = disk.create
        return bool(made and (made.template or made.backing or made.content))

    if not any(map(begins, disks)):
        why = "no disk is created from a template, a backing volume or content, which could be made again"
        raise Unclear(Fault(("cloudInit", "onChange"), why, "write onChange: reboot, or create the disk here"))
    made = ((disk, disk.create.model_copy(update={"made_for": seed})) for disk in disks if disk.create)
    again = {disk.name: disk.model_copy(update={"create": create}) for disk, create in made if begins(disk)}
    return [again.get(disk.name, disk) for disk in disks]


def _drive(machine: VirtualMachineSpec, name: str, seed: Mapping[str, str]) -> Disk:
    said = machine.cloud_init
    assert said
    texts: dict[str, str] = {**seed}
    volume = _seed_in(said.pool or _pool(machine, "cloudInit"), texts)
    disk: dict[str, Any] = {"name": DISK, "device": "cdrom", "bus": said.bus, "create": volume}
    if said.bus == "virtio":
        disk |= {"device": "disk", "readOnly": True}
    if said.on_change != "reboot":
        texts["onChange"] = said.on_change
        volume |= {"name": said.name} if said.name else {}
    else:
        # another seed is another volume, which the machine gets with its next start, as it does the serial number
        disk["serial"] = digest(seed)
        volume["name"] = f"{name}-{DISK}-{disk['serial']}.iso"
    return Disk.model_validate(disk)


def _pool(machine: VirtualMachineSpec, field: str) -> str:
    """The pool of a seed, where nobody says it."""
    for disk in machine.disks:
        if disk.create:
            return disk.create.pool
        if disk.volume:
            return disk.volume.pool
    raise Unclear(Fault((field,), "no disk is in a pool, which the seed would be in", "write pool"))
