"""Pools of type logical: https://libvirt.org/storage.html#logical-volume-pool"""

from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Claim
from kvmstate.kinds.storage_pool.base import PoolSpec, its_type
from kvmstate.kinds.storage_pool.types.source import Name
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml


class VolumeGroup(Section):
    name: Name | None = xml("name", effect=Effect.REPLACE, doc="The volume group. Default: the pool's name.")
    format: Literal["lvm2"] | None = xml("format/@type", doc="Default: lvm2.")


class LogicalPool(PoolSpec):
    """An LVM volume group, which is there already. It is activated and never made."""

    type: Literal["logical"] = its_type()
    source: VolumeGroup | None = xml("source", doc="The volume group.")

    def claims(self) -> Iterator[Claim]:
        if self.source and self.source.name:
            yield Claim(("source", "name"), "the volume group", self.source.name)
