"""The volumes that manifests and the record name, with the formats that these say: a volume's content may be a guest's
doing, and tells nothing that counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from kvmstate.host import Host
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.pool_types import image_format
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Resource, ResourceId

_FORMAT = re.compile(r"<format type=['\"]([\w-]+)['\"]")
# What libvirt calls content that it does not recognise, or that is raw to QEMU
_RAW = ("raw", "iso", "unknown", "")


def known(desired: Mapping[ResourceId, Resource], inventory: Inventory) -> dict[VolumeRef | str, str | None]:
    """Collect, by volume, or by path for a disk's file, its format, as it was applied last, else as it is declared;
    None for one that is only named, and for files, whose format the disk itself says."""
    found: dict[VolumeRef | str, str | None] = {}
    for id_, resource in desired.items():
        if format_ := resource.spec.content_format():
            found[VolumeRef.parse(id_.name)] = format_
        for use in resource.spec.images():
            found.setdefault(use.image)
    for id_, entry in inventory.entries.items():
        for spec in entry.specs[:1]:
            kind = BY_WORD[id_.kind]
            if entry.incomplete and kind.holds_data and id_ in desired:
                continue
            for image, format_ in kind.says.images(id_.name, spec):
                if format_ and not isinstance(image, str):
                    found[image] = format_
                else:
                    found.setdefault(image)
    return found


def files(desired: Mapping[ResourceId, Resource], inventory: Inventory) -> dict[str, tuple[str, str | None]]:
    """Collect, by path, who is to have this file, or had it when it was applied last, and its format. Machines come and
    go; a layer that is in no pool is found by this alone then."""
    specs = [(id_, resource.written) for id_, resource in desired.items()]
    specs += [
        (id_, spec) for part in (inventory.orphans, inventory.entries) for id_, e in part.items() for spec in e.specs
    ]
    return {
        image: (id_.name, format_)
        for id_, spec in specs
        for image, format_ in BY_WORD[id_.kind].says.images(id_.name, spec)
        if isinstance(image, str)
    }


def alarms(host: Host, changes: Iterable[Change]) -> Iterator[str]:
    """What people should know of raw volumes whose content has come to look like an image with a header."""
    for change in changes:
        kind = BY_WORD[change.id.kind]
        if kind.holds_data and change.observed and host.known.get(VolumeRef.parse(change.id.name)) == "raw":
            probed = _FORMAT.search(change.observed.xml)
            if probed and image_format(probed[1]) not in _RAW:
                yield (
                    f"{change.id} was made as raw, and its content looks like {probed[1]} by now: its guest may have "
                    "written that to reach other files of the host. It is still used as raw; look into the guest"
                )
