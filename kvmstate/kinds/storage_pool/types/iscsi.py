"""Pools of type iscsi and iscsi-direct: https://libvirt.org/storage.html#iscsi-pool"""

from collections.abc import Iterator
from typing import Literal

from kvmstate.kind import Claim
from kvmstate.kinds.storage_pool.base import Folder, PoolSpec, its_type, part
from kvmstate.kinds.storage_pool.types.source import Login, QualifiedName, port, server
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml


class Chap(Login):
    type: Literal["chap"] = xml("@type", default="chap", doc="How the password is shown.")


class IscsiTarget(Section):
    host: str = server()
    port: int | None = port()
    device: QualifiedName = xml("device/@path", required=True, effect=Effect.REPLACE, doc="The target's name.")
    initiator: QualifiedName | None = xml("initiator/iqn/@name", doc="The name by which the host logs in.")
    auth: Chap | None = xml("auth", doc="Without it the host logs in as nobody.")


class DirectTarget(IscsiTarget):
    initiator: QualifiedName = xml("initiator/iqn/@name", required=True, doc="The name by which QEMU logs in.")


class _Iscsi(PoolSpec):
    def _claim(self, source: IscsiTarget | None) -> Iterator[Claim]:
        if source:
            yield Claim(("source", "device"), "the target", f"{source.host.lower()} {source.device}")


class IscsiPool(_Iscsi):
    """The LUNs of an iSCSI target, which the host logs in to as long as the pool is active."""

    needed = ("source", "target")

    type: Literal["iscsi"] = its_type()
    source: IscsiTarget | None = part("source", "The target.")
    target: Folder | None = part("target", "Where the host has its LUNs: /dev/disk/by-path stays as it is.")

    def claims(self) -> Iterator[Claim]:
        yield from self._claim(self.source)


class IscsiDirectPool(_Iscsi):
    """The LUNs of an iSCSI target, which QEMU logs in to by itself."""

    needed = ("source",)

    type: Literal["iscsi-direct"] = its_type()
    source: DirectTarget | None = part("source", "The target.")

    def claims(self) -> Iterator[Claim]:
        yield from self._claim(self.source)
