"""Pools of type dir: https://libvirt.org/storage.html#directory-pool"""

from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Fault
from kvmstate.kinds.storage_pool.base import FolderPool, Target, its_type
from kvmstate.xmlbind import xml


class DirPool(FolderPool):
    """A folder of the host's. It is made when it is missing, and never removed with the pool."""

    type: Literal["dir"] = its_type()
    target: Target = xml("target", required=True, doc="Where the volumes are on the host.")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.build == "never" and self.target.permissions:
            message = "libvirt sets permissions when it makes the folder, and build: never makes none"
            yield Fault(("target", "permissions"), message, "leave one of them out", ("build",))
