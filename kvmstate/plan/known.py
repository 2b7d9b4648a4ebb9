"""The volumes that manifests and the record name, with the formats that these say: a volume's content may be a guest's
doing, and tells nothing that counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kvmstate.host import Host
from kvmstate.model.change import Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Resource, ResourceId

_FORMAT = re.compile(r"<format type=['\"]([\w-]+)['\"]")
# What libvirt calls content that it does not recognise, or that is raw to QEMU
_RAW = ("raw", "iso", "unknown", "")


def known(desired: Mapping[ResourceId, Resource], inventory: Inventory) -> dict[VolumeRef | str, str | None]:
    """By volume, or by path for a disk's file: its format, as it was applied last, else as it is declared; None for one
    that is only named."""
    found: dict[VolumeRef | str, str | None] = {}
    for id_, resource in desired.items():
        if id_.kind == "domain":
            for disk in resource.spec.disks:
                if disk.volume or disk.file:
                    found.setdefault(disk.volume or disk.file)
        elif id_.kind == "volume":
            found[_ref(id_.name)] = _format(resource.spec.remainder, resource.spec.format, resource.spec)
            if resource.spec.backing:
                found.setdefault(resource.spec.backing)
    for id_, entry in inventory.entries.items():
        for spec in entry.specs[:1]:
            if id_.kind == "volume" and not (entry.incomplete and id_ in desired):
                found[_ref(id_.name)] = _format(spec.get("remainder"), spec.get("format"), spec)
            elif id_.kind == "domain":
                for disk in spec.get("disks") or ():
                    if volume := disk.get("volume"):
                        found.setdefault(VolumeRef.model_validate(volume))
                    elif path := disk.get("file"):
                        found.setdefault(path)
    return found


def alarms(host: Host, changes: Iterable[Change]) -> Iterator[str]:
    """What people should know of raw volumes whose content has come to look like an image with a header."""
    for change in changes:
        if change.id.kind == "volume" and change.observed and host.known.get(_ref(change.id.name)) == "raw":
            probed = _FORMAT.search(change.observed.xml)
            if probed and probed[1] not in _RAW:
                yield (
                    f"{change.id} was made as raw, and its content looks like {probed[1]} by now: its guest may have "
                    "written that to reach other files of the host. It is still used as raw; look into the guest"
                )


def _ref(name: str) -> VolumeRef:
    pool, _, volume = name.partition("/")
    return VolumeRef.model_construct(pool=pool, name=volume)


def _format(remainder: str | None, said: str | None, spec: Any) -> str:
    owned = "format" in (spec if isinstance(spec, dict) else spec.model_fields_set)
    if remainder and not owned:
        # without a format it is made as raw, and of logical volumes and the like libvirt tells none
        return found[1] if (found := _FORMAT.search(remainder)) else "raw"
    return said or "qcow2"
