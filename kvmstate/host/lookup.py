"""What XML says by path and manifests by name."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

from kvmstate.errors import HostError
from kvmstate.host import domains, pools, snapshots, volumes
from kvmstate.host.faults import faults
from kvmstate.model.reference import VolumeRef, VolumeSource
from kvmstate.xmlbind.document import document


class HostLookup:
    """The storage pools of one host, read once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._pool = cache(connection.storagePoolLookupByName)
        self._volumes: dict[tuple[str, str], Any] = {}

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
        return repr((sorted(self._pools.items()), sorted(self._below.items())))

    @cached_property
    def _below(self) -> dict[str, tuple[str, str]]:
        """By the overlay that a disk of a domain with snapshots is written to: the image, and its format, that the
        disk had before the first of them."""
        found = {}
        for domain in snapshots.with_snapshots(self._connection):
            with suppress(HostError):
                kept = {path for snapshot in snapshots.all_of(domain) for path in _disks(snapshots.xml(snapshot))}
                for path in _disks(domains.xml(domain)) | _disks(domains.xml(domain, inactive=False)):
                    at, format_ = path, ""
                    while (below := self._backing(at)) and below[0] in kept:
                        at, format_ = below
                    if at != path:
                        found[path] = at, format_
        return found

    def _backing(self, path: str) -> tuple[str, str] | None:
        root = document(volumes.at(self._connection, path, self._pools.get(posixpath.dirname(path))))
        format_ = root.find("backingStore/format")
        below = root.findtext("backingStore/path")
        return (below, (format_.get("type") if format_ is not None else None) or "raw") if below else None

    def original(self, path: str, format_: str = "") -> tuple[str, str]:
        """The image, and its format, that a disk had before its machine's snapshots; where it has none, what it has."""
        return self._below.get(path, (path, format_))

    def volume_at(self, path: str) -> VolumeRef | None:
        """The volume of a file; of a snapshot's overlay, the volume that it is the latest state of."""
        folder, name = posixpath.split(self.original(path)[0])
        pool = self._pools.get(folder)
        return VolumeRef(pool=pool, name=name) if pool and name else None

    def remember(self, pool: str, listed: Iterable[Any]) -> None:
        """Volumes that were just listed need not be looked up. A volume here is a name: all that is asked of one is as
        of the question, also when it was made anew meanwhile."""
        self._volumes |= {(pool, volume.name()): volume for volume in listed}

    def volume_source(self, ref: VolumeRef) -> VolumeSource:
        """Raises NotFound when there is no such volume."""
        with faults():
            volume = self._volumes.get((ref.pool, ref.name)) or self._pool(ref.pool).storageVolLookupByName(ref.name)
            node = document(volume.XMLDesc(0))
        format_ = node.find("target/format")
        known = (format_.get("type") if format_ is not None else None) or "raw"
        return VolumeSource(
            "block" if node.get("type") == "block" else "file",
            node.findtext("target/path") or "",
            # a CD-ROM's image is no format of QEMU's
            "raw" if known == "iso" else known,
        )


def _disks(text: str) -> set[str]:
    """The files of the disks in a domain's or a snapshot's XML."""
    sources = document(text).iterfind(".//devices/disk/source")
    return {path for source in sources if (path := source.get("file") or source.get("dev"))}
