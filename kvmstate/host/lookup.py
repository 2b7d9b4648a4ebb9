"""What XML says by path and manifests by name."""

from __future__ import annotations

import posixpath
from functools import cache, cached_property
from typing import Any

from kvmstate.host import pools
from kvmstate.host.faults import faults
from kvmstate.model.reference import VolumeRef, VolumeSource
from kvmstate.xmlbind.document import document


class HostLookup:
    """The storage pools of one host, read once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._pool = cache(connection.storagePoolLookupByName)

    @cached_property
    def _pools(self) -> dict[str, str]:
        """Pool names by the folder that their volumes are in."""
        found = {}
        for pool in pools.all_pools(self._connection):
            path = document(pools.xml(pool)).findtext("target/path")
            if path:
                found[path.rstrip("/")] = pool.name()
        return found

    @cached_property
    def meaning(self) -> str:
        """All of it as one text: where it is the same, paths mean the same."""
        return repr(sorted(self._pools.items()))

    def volume_at(self, path: str) -> VolumeRef | None:
        folder, name = posixpath.split(path)
        pool = self._pools.get(folder)
        return VolumeRef(pool=pool, name=name) if pool and name else None

    def volume_source(self, ref: VolumeRef) -> VolumeSource:
        """Raises NotFound when there is no such volume."""
        with faults():
            node = document(self._pool(ref.pool).storageVolLookupByName(ref.name).XMLDesc(0))
        format_ = node.find("target/format")
        return VolumeSource(
            "block" if node.get("type") == "block" else "file",
            node.findtext("target/path") or "",
            (format_.get("type") or "raw") if format_ is not None else "raw",
        )
