"""Pools of type rbd: https://libvirt.org/storage.html#rbd-pool"""

from typing import Literal

from kvmstate.kinds.storage_pool.base import PoolSpec, its_type, part
from kvmstate.kinds.storage_pool.types.source import Login, Name, port, server
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml, xml_list


class Cephx(Login):
    type: Literal["ceph"] = xml("@type", default="ceph", doc="How the key is shown.")


class Monitor(Section):
    name: str = server("@name")
    port: int | None = port("@port")


class CephPool(Section):
    name: Name = xml("name", required=True, effect=Effect.REPLACE, doc="The Ceph pool.")
    hosts: list[Monitor] = xml_list("host", key="name", doc="The monitors.")
    auth: Cephx | None = xml("auth", doc="Without it the cluster must ask nobody who he is.")


class RbdPool(PoolSpec):
    """The images of a Ceph pool, which QEMU opens by itself."""

    needed = ("source",)

    type: Literal["rbd"] = its_type()
    source: CephPool | None = part("source", "The Ceph pool.")
