"""Pools of type zfs: https://libvirt.org/storage.html#zfs-pool"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from kvmstate.kind import Claim
from kvmstate.kinds.storage_pool.base import PoolSpec, its_type
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml


class Zpool(Section):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z][^\s]*$")] | None = xml(
        "name", effect=Effect.REPLACE, doc="The zpool, or a file system in it. Default: the pool's name."
    )


class ZfsPool(PoolSpec):
    """The volumes of a zpool, which is there already."""

    type: Literal["zfs"] = its_type()
    source: Zpool | None = xml("source", doc="The zpool.")

    def claims(self) -> Iterator[Claim]:
        if self.source and self.source.name:
            yield Claim(("source", "name"), "the zpool", self.source.name)
