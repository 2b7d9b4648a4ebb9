"""The drive that tells a machine what to do at its first boot, and the volume that is in it."""

from __future__ import annotations

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

S = TypeVar("S", bound="VirtualMachineSpec")


def with_drive(machine: S, name: str, project: str) -> S:
    """The machine as libvirt has it: with a drive in place of `cloud_init`, as its last disk, and without what only its
    guest is told. Raises Unclear where it does not say in which pool the seed is, or has such a disk already."""
    if any(disk.name == DISK for disk in machine.disks):
        why = f"the disk of the name {DISK} is that of cloudInit"
        raise Unclear(Fault(("disks",), why, "give the other one another name"))
    update: dict[str, Any] = {"disks": [*machine.disks, _drive(machine, name, project)]}
    if "interfaces" in machine.model_fields_set:
        update["interfaces"] = [as_libvirt_has(nic) for nic in machine.interfaces]
    if machine.cloud_init and machine.cloud_init.bus == "scsi" and not _has_scsi(machine):
        # libvirt's own choice is a model that kernels for clouds have no driver for
        update["controllers"] = [*machine.controllers, Controller(name="scsi0", model="virtio-scsi")]
    return owning(machine, *(machine.model_fields_set - {"cloud_init"})).model_copy(update=update)


def _has_scsi(machine: VirtualMachineSpec) -> bool:
    return any(each.type == "scsi" for each in machine.controllers) or any(d.bus == "scsi" for d in machine.disks)


def _drive(machine: VirtualMachineSpec, name: str, project: str) -> Disk:
    said = machine.cloud_init
    assert said
    seed = said.seed(name, [*guests(machine.interfaces, Owner(project, name))])
    texts: dict[str, str] = {**seed}
    # it holds nothing that its manifest does not say
    volume: dict[str, Any] = {"pool": _pool(machine), "format": "iso", "content": {"seed": texts}}
    volume["lifecycle"] = {"deletion": "delete", "replace": "allow"}
    disk: dict[str, Any] = {"name": DISK, "device": "cdrom", "bus": said.bus, "create": volume}
    if said.bus == "virtio":
        disk |= {"device": "disk", "readOnly": True}
    if said.on_change == "ignore":
        texts["onChange"] = "ignore"
        volume |= {"name": said.name} if said.name else {}
    else:
        # another seed is another volume, which the machine gets with its next start, as it does the serial number
        disk["serial"] = digest(seed)
        volume["name"] = f"{name}-{DISK}-{disk['serial']}.iso"
    return Disk.model_validate(disk)


def _pool(machine: VirtualMachineSpec) -> str:
    """Of the seed."""
    if machine.cloud_init and machine.cloud_init.pool:
        return machine.cloud_init.pool
    for disk in machine.disks:
        if disk.create:
            return disk.create.pool
        if disk.volume:
            return disk.volume.pool
    raise Unclear(Fault(("cloudInit",), "no disk is in a pool, which the seed would be in", "write pool"))
