"""The image files of a host, wherever they are, as libvirt sees them: the same over every transport.

A file in the folder of an active storage pool is a volume of that pool. Into any other folder libvirt looks through a
pool that is made for the look, is never defined, and takes no part in what the folder holds.
"""

from __future__ import annotations

import json
import posixpath
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from kvmstate.errors import ConnectionFailed, HostError, NotFound, Unseen
from kvmstate.host import pools, volumes
from kvmstate.host.faults import faults
from kvmstate.host.objects import Pool
from kvmstate.model.pool_types import PoolType, Volumes, image_format, pool_type
from kvmstate.xmlbind.document import document

# For so long what a pool has just been seen to hold is what it holds, in seconds
_FRESH = 0.5


@dataclass(frozen=True)
class File:
    """An image file. `backing` is the path of what lies below it; `times` are those of its last change, and tell
    whether two paths lead to one file as long as nobody writes to it."""

    path: str
    format: str
    backing: str | None
    backing_format: str
    times: tuple[str, ...]
    pool: str | None = None


def normal(path: str) -> str:
    """One spelling for `/a/./b`, `/a//b` and `/a/c/../b`. Symbolic links are left: see `Files.file`."""
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def below(file: File) -> list[tuple[str, str | None]]:
    """The files that an image names as what lies below it, and what each is used as (None: as it looks). QEMU takes
    more than paths there, which libvirt hands on as they are."""
    text = file.backing or ""
    if text.startswith("json:"):
        with suppress(ValueError, RecursionError):
            return [(normal(f"/{path}"), None) for path in _filenames(json.loads(text.removeprefix("json:")))]
    if text.startswith("file:"):
        return [(normal(f"/{text.removeprefix('file:')}"), None)]
    if re.match("[a-z0-9+.-]+:", text):
        return []
    return [(normal(posixpath.join(posixpath.dirname(file.path), text)), file.backing_format)] if text else []


def _filenames(node: Any, of: str = "") -> Iterator[str]:
    """Those in a block device's options, which are nested or have dots in their names."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _filenames(value, name)
    elif isinstance(node, str) and of.rpartition(".")[2] == "filename":
        yield node.removeprefix("file:")


def read(text: str, path: str = "", pool: str | None = None) -> File:
    """What a volume's XML says of its file."""
    root = document(text)
    format_, below = root.find("target/format"), root.find("backingStore/format")
    times = [root.findtext(f"target/timestamps/{name}") or "" for name in ("ctime", "mtime")]
    return File(
        path or normal(root.findtext("target/path") or ""),
        image_format(format_.get("type", "raw")) if format_ is not None else "raw",
        root.findtext("backingStore/path") or None,
        (below.get("type") if below is not None else None) or "raw",
        (*times, root.findtext("capacity") or ""),
        pool,
    )


class _Listed(NamedTuple):
    """A pool, its type, the path of its target, and whether it is active."""

    pool: Pool
    type: PoolType
    path: str
    active: bool


class Files:
    """The files of one host, as of the first question about each folder; volumes as `held` says, where it does."""

    def __init__(self, connection: Any, held: Mapping[str, str] = MappingProxyType({})) -> None:
        self._connection = connection
        self._held = held
        self._looked: dict[str, dict[str, File] | Unseen] = {}
        self._refreshed: dict[str, float] = {}

    @cached_property
    def _pools(self) -> list[_Listed]:
        found = []
        for pool in pools.all_pools(self._connection):
            with suppress(NotFound), faults():
                root = document(pools.xml(pool))
                path = root.findtext("target/path") or ""
                kind = pool_type(root.get("type", ""))
                found.append(_Listed(pool, kind, normal(path) if path else "", pool.active))
        return found

    @cached_property
    def folders(self) -> dict[str, str]:
        """The names of active pools by the folder that their files are in."""
        return {each.path: each.pool.name for each in self._of(Volumes.FILES, active=True)}

    @cached_property
    def inactive(self) -> dict[str, str]:
        """The names of pools of files that are not active, by folder."""
        return {each.path: each.pool.name for each in self._of(Volumes.FILES, active=False)}

    @cached_property
    def active(self) -> set[str]:
        """The names of active pools, of any type."""
        return {each.pool.name for each in self._pools if each.active}

    @property
    def of_devices(self) -> list[Pool]:
        """Active pools whose volumes are block devices."""
        return [each.pool for each in self._of(Volumes.DEVICES, active=True)]

    def _of(self, volumes: Volumes, active: bool) -> Iterator[_Listed]:
        return (each for each in self._pools if each.type.volumes is volumes and each.active is active)

    def type_of(self, name: str) -> PoolType | None:
        """The type of a pool; None where there is no such pool."""
        return next((each.type for each in self._pools if each.pool.name == name), None)

    def folder_of(self, name: str) -> str | None:
        """The folder of a pool of files."""
        found = (each for each in self._pools if each.pool.name == name and each.type.volumes is Volumes.FILES)
        return next((each.path for each in found), None)

    def file(self, path: str) -> File | None:
        """The file at a path, None where there is none. Raises Unseen, ConnectionFailed."""
        path = normal(path)
        folder, name = posixpath.split(path)
        if pool := self.folders.get(folder):
            # one that has stopped or gone meanwhile leaves its folder to be looked into
            with suppress(Unseen, NotFound):
                return self._volume(pool, name, path)
        if path.startswith("/dev/"):
            return File(path, "raw", None, "raw", ())
        return self.within(folder).get(name)

    def chain(self, path: str, format_: str | None = None) -> Iterator[str]:
        """The path and those of all that lies below it. `format_` is what the file is used as: what a raw image holds
        is the guest's, also when it looks like another format. Raises Unseen."""
        passed: set[str] = set()
        at = normal(path)
        while at not in passed:
            passed.add(at)
            yield at
            found = self.file(at)
            if found is None or (format_ or found.format) == "raw" or not (lower := below(found)):
                return
            at, format_ = lower[0]

    def within(self, folder: str) -> dict[str, File]:
        """The files in a folder that no active pool has, by their names. Raises Unseen, ConnectionFailed."""
        if folder not in self._looked:
            try:
                self._looked[folder] = self._look(folder)
            except ConnectionFailed:
                raise
            except HostError as error:
                self._looked[folder] = Unseen(f"what is in {folder} cannot be seen: {error.message}", error.hint)
        found = self._looked[folder]
        if isinstance(found, Unseen):
            raise found
        return found

    def _volume(self, pool_name: str, name: str, path: str) -> File | None:
        if text := self._held.get(f"{pool_name}/{name}"):
            return read(text, path, pool_name)
        pool = pools.find(self._connection, pool_name)
        for _ in range(2):
            try:
                return read(volumes.xml(volumes.find(pool, name)), path, pool_name)
            except NotFound:
                # made by QEMU, or behind libvirt's back
                if time.monotonic() - self._refreshed.get(pool_name, -_FRESH) < _FRESH:
                    return None
            try:
                pools.refresh(pool)
            except ConnectionFailed:
                raise
            except HostError as error:
                # it stops by that, as when its folder has gone
                raise Unseen(f"what is in pool {pool_name} cannot be seen: {error.message}", error.hint) from error
            self._refreshed[pool_name] = time.monotonic()
        return None

    def _look(self, folder: str) -> dict[str, File]:
        try:
            pool = pools.look(self._connection, folder)
        except NotFound:
            return {}
        try:
            files = {}
            for volume in pools.listed(pool):
                with suppress(NotFound):
                    files[volume.name] = read(volumes.xml(volume), posixpath.join(folder, volume.name))
            return files
        finally:
            with suppress(HostError):
                pools.stop(pool)
