"""What a manifest of a copy of a machine says: the same, with disks that are copied, and an identity of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmstate.kinds.virtual_machine.settings.cloud_init import DISK

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec

# What one machine alone has: fields, and fields of items or sections
_OWN = ("uuid", "genid", "dependsOn", "install")
_PARTS = {
    "interfaces": ("mac", "addresses", "gateway"),
    "cloudInit": ("hostname", "name"),
    "nvram": ("path",),
    "vsock": ("cid",),
    "graphics": ("port", "tlsPort"),
}
# What of a volume's declaration says how another one was made
_MADE = ("name", "backing", "content", "template", "templateDisk", "clone", "build", "capacity", "allocation")
# What virt-sysprep takes out, so that a copy is not taken for the machine that it is a copy of
OPERATIONS = ["machine-id", "ssh-hostkeys", "dhcp-client-state", "net-hostname", "net-hwaddr", "udev-persistent-net"]


def twin(
    machine: VirtualMachineSpec, own: Mapping[str, Any], name: str, formats: Mapping[str, str], sysprep: bool
) -> tuple[dict[str, Any], list[str]]:
    """The spec of the machine's copy of this name, and what people should know of it. `own` is what the machine's
    manifest says, `formats` are those of volumes."""
    made: dict[str, Any] = {key: value for key, value in copy.deepcopy(dict(own)).items() if key not in _OWN}
    notes = [f"{key} is left out: it is the machine's own" for key in _OWN[2:] if key in own]
    for key, parts in _PARTS.items():
        value: Any = made.get(key)
        for item in value if isinstance(value, list) else [value]:
            for part in parts if isinstance(item, dict) else ():
                if item.pop(part, None) is not None and part == "addresses":
                    notes.append(f"{key}: addresses are left out: two machines cannot have one")
    said = {disk.get("name"): disk for disk in own.get("disks") or ()}
    disks, first = [], True
    for disk in machine.disks:
        item = copy.deepcopy(said.get(disk.name, {"name": disk.name}))
        if disk.name == DISK:
            continue
        if disk.device != "disk" or disk.read_only or disk.shareable or disk.network:
            disks += [item] if disk.name in said else []
            notes += [f"disk {disk.name} is shared with it"] if disk.shareable or disk.network else []
            continue
        if disk.volume is None:
            notes.append(f"disk {disk.name} is left out: it is a file in no pool, which is not copied")
            continue
        create: dict[str, Any] = {k: v for k, v in (item.pop("create", None) or {}).items() if k not in _MADE}
        item.pop("volume", None)
        create = {"pool": disk.volume.pool, **create, "content": {"volume": str(disk.volume), "live": True}}
        if (format_ := formats.get(str(disk.volume), "qcow2")) != "qcow2":
            create["format"] = format_
        if machine.template:
            # else it would be a clone
            create |= {"template": None, "templateDisk": None, "clone": None}
        if first and sysprep:
            create["build"] = {"operations": OPERATIONS, "hostname": name}
        first = False
        disks.append({**item, "create": create})
    if disks:
        made["disks"] = disks
    return made, notes
