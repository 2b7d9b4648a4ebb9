"""Pools of type gluster: https://libvirt.org/storage.html#gluster-pool"""

from typing import Literal

from kvmstate.kinds.storage_pool.base import AbsolutePath, PoolSpec, its_type, part
from kvmstate.kinds.storage_pool.types.source import Name, port, server
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_path


class GlusterVolume(Section):
    host: str = server()
    port: int | None = port()
    name: Name = xml("name", required=True, effect=Effect.REPLACE, doc="The Gluster volume.")
    dir: AbsolutePath | None = xml(
        "dir/@path", same=same_path, effect=Effect.REPLACE, doc="A folder in it. Default: /."
    )


class GlusterPool(PoolSpec):
    """The images on a Gluster volume, which QEMU opens by itself."""

    needed = ("source",)

    type: Literal["gluster"] = its_type()
    source: GlusterVolume | None = part("source", "The volume.")
