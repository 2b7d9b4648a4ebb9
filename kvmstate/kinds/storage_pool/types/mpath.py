"""Pools of type mpath: https://libvirt.org/storage.html#multipath-pool"""

from typing import Literal

from kvmstate.kinds.storage_pool.base import Folder, PoolSpec, its_type, part


class MpathPool(PoolSpec):
    """The multipath devices of the host: one pool has all of them."""

    needed = ("target",)

    type: Literal["mpath"] = its_type()
    target: Folder | None = part("target", "Where the host has them: /dev/mapper.")
