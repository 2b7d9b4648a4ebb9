"""Pools of type disk: https://libvirt.org/storage.html#disk-pool"""

from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Claim
from kvmstate.kinds.storage_pool.base import AbsolutePath, Folder, PoolSpec, claim, its_type, part
from kvmstate.kinds.storage_pool.types.source import device
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import YES_NO

LabelType = Literal["unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"]


class Disk(Section):
    device: AbsolutePath = device(
        "device/@path", "A disk of the host. It has a label already, unless `build` makes it."
    )
    part_separator: bool | None = xml(
        "device/@part_separator", YES_NO, doc="Whether the names of its partitions have a p before their number."
    )
    format: LabelType | None = xml("format/@type", doc="Its label.")


class DiskPool(PoolSpec):
    """The partitions of a disk."""

    needed = ("source", "target")
    builds = ("ifEmpty", "overwrite", "never")

    type: Literal["disk"] = its_type()
    source: Disk | None = part("source", "The disk.")
    target: Folder | None = part("target", "Where the host has its partitions: /dev, or a folder below /dev/disk.")

    def devices(self) -> list[str]:
        return [self.source.device] if self.source else []

    def lacks(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.source and self.source.format in (None, "unknown"):
            yield ("source",), "source.format"

    def claims(self) -> Iterator[Claim]:
        if self.source:
            yield claim(("source", "device"), "the device", self.source.device)
