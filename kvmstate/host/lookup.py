"""What XML says by path and manifests by name."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, cached_property, partial
from types import MappingProxyType
from typing import Any

from kvmstate.errors import HostError, Unseen
from kvmstate.host import domains, managed_secrets, pools, snapshots, volumes
from kvmstate.host.faults import faults
from kvmstate.host.files import Files, normal
from kvmstate.host.objects import Volume
from kvmstate.model.pool_types import image_format
from kvmstate.model.reference import VolumeRef, VolumeSource
from kvmstate.xmlbind import disk_source
from kvmstate.xmlbind.document import document

# What QEMU calls the content of a volume that libvirt calls so
_USED_AS = {"iso": "raw"}


class HostLookup:
    """The storage of one host, as of the first question.

    `known` are the volumes, and the paths, that manifests or the project's record name, with their formats where these
    say them: formats are never taken from what libvirt finds in a volume, as a guest can write that. `held` is the XML
    of volumes that are not asked about again, by POOL/NAME.
    """

    def __init__(
        self, connection: Any, known: dict[VolumeRef | str, str | None], held: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._connection = connection
        self._known = known
        self._pool = cache(partial(pools.find, connection))
        self._volumes: dict[tuple[str, str], Volume] = {}
        self._held = held
        self.files = Files(connection, held)
        # paths that are neither volumes of `known` nor known not to lie on one
        self.unseen: dict[str, str] = {}

    @cached_property
    def meaning(self) -> str:
        """All of it as one text: where it is the same, paths mean the same."""
        return repr((sorted(self.files.folders.items()), sorted(self._below.items())))

    @cached_property
    def _below(self) -> dict[str, tuple[str, str]]:
        """By the overlay that a disk of a domain with snapshots is written to: the image, and its format, that the
        disk had before the first of them."""
        found = {}
        for domain in snapshots.with_snapshots(self._connection):
            with suppress(HostError):
                kept = {path for text in snapshots.texts(domain) for path in self._disks(text)}
                for path in self._disks(domains.xml(domain)) | self._disks(domains.xml(domain, inactive=False)):
                    at, format_ = path, ""
                    while (below := self._backing(at)) and below[0] in kept:
                        at, format_ = below
                    if at != path:
                        found[path] = at, format_
        return found

    def _disks(self, text: str) -> set[str]:
        return set(disk_source.paths(disk_source.locate(document(text), self.path_of)))

    def _backing(self, path: str) -> tuple[str, str] | None:
        file = self.files.file(path)
        return (file.backing, file.backing_format) if file and file.backing else None

    def original(self, path: str, format_: str = "") -> tuple[str, str]:
        """The image, and its format, that a disk had before overlays were laid on it, by its machine's snapshots or by
        a backup program; where there is none, what the disk has."""
        # what the first snapshot was taken of may have been an overlay itself
        path, format_ = self._below.get(path, (path, format_))
        if not self._known or self._is_known(path):
            return path, format_
        try:
            for below in self.files.chain(path, format_ or None):
                if below != normal(path) and self._is_known(below):
                    return below, self._known.get(self._ref(below) or below) or self._probed(below)
        except Unseen as unseen:
            self.unseen[path] = unseen.message
        return path, format_

    def _is_known(self, path: str) -> bool:
        return path in self._known or self._ref(path) in self._known

    def _probed(self, path: str) -> str:
        file = self.files.file(path)
        return file.format if file else "raw"

    def _ref(self, path: str) -> VolumeRef | None:
        folder, name = posixpath.split(normal(path))
        if (pool := self.files.folders.get(folder)) and name:
            return VolumeRef.of(pool, name)
        return self._devices.get(path) if path.startswith("/dev/") else None

    @cached_property
    def _devices(self) -> dict[str, VolumeRef]:
        """The volumes of active pools that are not files, by the path that libvirt gives them."""
        found = {}
        for pool in self.files.of_devices:
            for volume in pools.volumes(pool):
                with suppress(HostError), faults():
                    found[volume.path] = VolumeRef.of(pool.name, volume.name)
        return found

    def volume_at(self, path: str) -> VolumeRef | None:
        """The volume of a file; of an overlay, the volume that it is the latest state of."""
        return self._ref(self.original(path)[0])

    def before_snapshots(self, path: str) -> str:
        """The image that a disk with this file had before its machine's first snapshot; without any, the file."""
        return self._below.get(path, (path, ""))[0]

    def called(self, path: str) -> str:
        """How people call the image at a path, whatever it lies on: `volume POOL/NAME`, or by its path."""
        ref = self._ref(path)
        return f"volume {ref}" if ref else path

    def path_of(self, pool: str, name: str) -> tuple[str, str] | None:
        """The disk type and the path that libvirt makes of a disk of type volume, where it has one."""
        return volumes.place(self._connection, pool, name) if pool in self.files.active else None

    def remember(self, pool: str, listed: Iterable[Volume]) -> None:
        """Volumes that were just listed need not be looked up. A volume here is a name: all that is asked of one is as
        of the question, also when it was created again meanwhile."""
        self._volumes |= {(pool, volume.name): volume for volume in listed}

    def volume_source(self, ref: VolumeRef) -> VolumeSource:
        """How a disk shows a volume. The format is empty where nobody but its content tells it. Raises NotFound when
        there is no such volume, HostError for one that is neither a file nor a device."""
        if (text := self._held.get(f"{ref.pool}/{ref.name}")) is None:
            with faults():
                volume = self._volumes.get((ref.pool, ref.name)) or volumes.find(self._pool(ref.pool), ref.name)
                text = str(volume.raw.XMLDesc(0))
        node = document(text)
        kind = node.get("type", "file")
        if kind not in ("file", "block"):
            raise HostError(
                f"volume {ref} is of type {kind}, which a disk cannot name by its path yet",
                "attach it by hand, and take the machine over with `kvmstate import`",
            )
        format_ = self._known.get(ref) or ""
        probed = node.find("target/format")
        if not format_ and (probed is None or image_format(probed.get("type", "raw")) in ("raw", "iso", "unknown")):
            # it would be raw in any case: what is not marked as anything else
            format_ = "raw"
        return VolumeSource(kind, node.findtext("target/path") or "", _USED_AS.get(format_, format_))

    def secret_uuid(self, name: str) -> str:
        """The UUID of the secret of this name. Raises NotFound."""
        return managed_secrets.find(self._connection, name).uuid

    def secret_at(self, uuid: str) -> str:
        """The name of the secret of this UUID; the UUID where there is none."""
        return managed_secrets.name_of(self._connection, uuid) or uuid

    def learn(self, ref: VolumeRef, format_: str) -> None:
        """A domain uses this volume as one of this format. What is said already counts more."""
        if not self._known.get(ref):
            self._known[ref] = format_
