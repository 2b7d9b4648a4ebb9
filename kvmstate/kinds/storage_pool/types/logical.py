"""Pools of type logical: https://libvirt.org/storage.html#logical-volume-pool"""

from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Claim
from kvmstate.kinds.storage_pool.base import AbsolutePath, PoolSpec, claim, its_type
from kvmstate.kinds.storage_pool.types.source import Name
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml, xml_list


def _has_all(want: list[str], seen: list[str] | None) -> bool:
    return {*want} <= {*(seen or ())}


class VolumeGroup(Section):
    name: Name | None = xml("name", effect=Effect.REPLACE, doc="The volume group. Default: the pool's name.")
    devices: list[AbsolutePath] = xml_list(
        "device/@path",
        same=_has_all,
        effect=Effect.REPLACE,
        doc="The disks that `build` makes it of. A group may have others besides.",
    )
    format: Literal["lvm2"] | None = xml("format/@type", doc="Default: lvm2.")


class LogicalPool(PoolSpec):
    """An LVM volume group. It is activated with the pool."""

    builds = ("ifEmpty", "overwrite", "never")

    type: Literal["logical"] = its_type()
    source: VolumeGroup | None = xml("source", doc="The volume group.")

    def devices(self) -> list[str]:
        return [*self.source.devices] if self.source else []

    def claims(self) -> Iterator[Claim]:
        for number, device in enumerate(self.devices()):
            yield claim(("source", "devices", str(number)), "the device", device)
        if self.source and self.source.name:
            yield Claim(("source", "name"), "the volume group", self.source.name)
