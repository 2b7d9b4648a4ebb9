"""Pools of type scsi: https://libvirt.org/storage.html#scsi-pool"""

from typing import Literal, Self

from pydantic import model_validator

from kvmstate.kinds.storage_pool.base import Folder, PoolSpec, its_type, part
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import YES_NO, same_case


class Adapter(Section):
    """A SCSI host, by its name, or a Fibre Channel one, by its world-wide names."""

    type: Literal["scsi_host", "fc_host"] = xml("@type", required=True, effect=Effect.REPLACE, doc="What it is.")
    name: str | None = xml(
        "@name", pattern=r"^(scsi_)?host[0-9]+$", effect=Effect.REPLACE, doc="Of a scsi_host, such as host0."
    )
    parent: str | None = xml("@parent", pattern=r"^[^\s]+$", doc="Of an fc_host: what its virtual port is made on.")
    managed: bool | None = xml("@managed", YES_NO, doc="Whether that port goes when the pool stops.")
    wwnn: str | None = xml("@wwnn", same=same_case, pattern="^[0-9a-fA-F]{16}$", effect=Effect.REPLACE, doc="Its node.")
    wwpn: str | None = xml("@wwpn", same=same_case, pattern="^[0-9a-fA-F]{16}$", effect=Effect.REPLACE, doc="Its port.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        lacking = [] if self.type == "fc_host" else ["name"] if self.name is None else []
        if self.type == "fc_host":
            lacking = [name for name in ("wwnn", "wwpn") if getattr(self, name) is None]
        if lacking:
            raise ValueError(f"an adapter of type {self.type} needs {lacking[0]}")
        return self


class Scsi(Section):
    adapter: Adapter = xml("adapter", required=True, doc="The adapter.")


class ScsiPool(PoolSpec):
    """The LUNs of a SCSI adapter of the host."""

    type: Literal["scsi"] = its_type()
    needed = ("source", "target")

    source: Scsi | None = part("source", "The adapter.")
    target: Folder | None = part("target", "Where the host has its LUNs, such as /dev/disk/by-path.")
