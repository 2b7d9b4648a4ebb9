"""The disk in an OCI image, as an archive of one (`skopeo copy … oci-archive:FILE`) holds it: a file below /disk, as
KubeVirt's container disks have it. https://github.com/opencontainers/image-spec/blob/main/image-layout.md"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK, ZEROS
from kvmstate.kinds.volume import scratch, unpack

FOLDER = "disk/"
# What an archive's own tables may take: bytes of one document, of a header that describes another one; files in a
# layer; documents that lead to each other
_DOCUMENT, _HEADER, _FILES, _DEEP = 4 << 20, 1 << 20, 1_000_000, 4
_DIGEST = re.compile("sha256:[0-9a-f]{64}", re.ASCII)
_PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64"}
# As an image names its whiteouts: files of layers below that are not there any more
_WHITEOUT = ".wh."


class _Member(tarfile.TarInfo):
    """One whose headers fit into memory, and which has no map of holes: that is read as a whole, too."""

    # those of tarfile.TarInfo, which has no others to ask
    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        described = self.type in (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if self.type == tarfile.GNUTYPE_SPARSE or (described and self.size > _HEADER):
            raise tarfile.HeaderError("a header that is too long, or a map of holes")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *words: object) -> None:
        raise tarfile.HeaderError("a map of holes")


class _Layer:
    """A layer's bytes, as they are unpacked, for tarfile to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def disk(file: BinaryIO, name: str, most: int, progress: Callable[[int], object]) -> BinaryIO:
    """The disk's image, as a file without a name; `progress` is told how much of the archive has been read. Raises
    HostError for an archive that is damaged, has no disk or several, or one of more than `most` bytes, and OSError."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
            return _Image(archive, name, most, progress).disk()
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError) as error:
        raise HostError(f"{name}: this OCI archive is damaged: {error}", "check the source") from error


class _Image:
    def __init__(self, archive: tarfile.TarFile, name: str, most: int, progress: Callable[[int], object]) -> None:
        self._archive, self._name, self._most, self._progress = archive, name, most, progress
        self._blobs: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(archive):
            if number > _FILES:
                raise tarfile.TarError("too many files")
            if member.isreg():
                self._blobs[member.name.removeprefix("./")] = member

    def disk(self) -> BinaryIO:
        manifest = self._manifest(json.loads(self._document(self._blobs["index.json"])), _DEEP)
        for layer in reversed(manifest["layers"]):
            if found := self._in_layer(str(layer["digest"])):
                return found
        raise HostError(f"{self._name}: no layer of this OCI image has a file in /{FOLDER}", "is it a container disk?")

    def _manifest(self, document: dict[str, Any], deep: int) -> dict[str, Any]:
        """That of this machine's kind, where there are several."""
        if "layers" in document:
            return document
        if not deep:
            raise tarfile.TarError("its indexes lead to each other")
        listed = [each for each in document["manifests"] if (each.get("platform") or {}).get("os") != "unknown"]
        own = _PLATFORMS.get(platform.machine(), platform.machine())
        fitting = [each for each in listed if (each.get("platform") or {}).get("architecture", own) == own]
        if len(fitting) != 1:
            raise HostError(
                f"{self._name}: this OCI archive has {len(fitting)} images for {own}",
                "make one that has a single image",
            )
        digest = str(fitting[0]["digest"])
        text = self._document(self._blob(digest))
        if f"sha256:{hashlib.sha256(text).hexdigest()}" != digest:
            raise tarfile.TarError(f"{digest} has another digest")
        return self._manifest(json.loads(text), deep - 1)

    def _blob(self, digest: str) -> tarfile.TarInfo:
        if not _DIGEST.fullmatch(digest):
            raise tarfile.TarError("a digest that is not sha256")
        return self._blobs[f"blobs/{digest.replace(':', '/')}"]

    def _document(self, member: tarfile.TarInfo) -> bytes:
        if member.size > _DOCUMENT:
            raise tarfile.TarError(f"{member.name} is too long")
        content = self._archive.extractfile(member)
        return content.read() if content else b""

    def _in_layer(self, digest: str) -> BinaryIO | None:
        content, hashed = self._archive.extractfile(self._blob(digest)), hashlib.sha256()
        assert content

        def read() -> Iterator[bytes]:
            while chunk := content.read(CHUNK):
                hashed.update(chunk)
                self._progress(self._archive.fileobj.tell() if self._archive.fileobj else 0)
                yield chunk

        pieces = read()
        first = next(pieces, b"")

        def whole() -> Iterator[bytes]:
            yield first
            yield from pieces

        kind = unpack.packed(first)
        unpacked = unpack.unpacked(kind, whole(), self._name) if kind else whole()
        found: BinaryIO | None = None
        try:
            with tarfile.open(fileobj=_Layer(unpacked), mode="r|", tarinfo=_Member) as layer:  # type: ignore[call-overload]
                for number, member in enumerate(layer):
                    if number > _FILES:
                        raise tarfile.TarError("too many files in a layer")
                    # a list of all of them is kept otherwise
                    layer.members.clear()
                    path = member.name.removeprefix("./").lstrip("/")
                    inside = path.startswith(FOLDER) and not os.path.basename(path).startswith(_WHITEOUT)
                    if not inside or not member.isreg():
                        continue
                    if found:
                        raise HostError(f"{self._name}: this OCI image has several files in /{FOLDER}", "one is meant")
                    found = self._kept(layer.extractfile(member))
            for _ in unpacked:
                # what is behind the end of the layer counts in its digest
                pass
            if f"sha256:{hashed.hexdigest()}" != digest:
                raise tarfile.TarError(f"{digest} has another digest")
        except BaseException:
            if found:
                found.close()
            raise
        return found

    def _kept(self, content: Any) -> BinaryIO:
        file: Any = tempfile.TemporaryFile(dir=scratch.folder())  # noqa: SIM115
        try:
            length = data = 0
            room = scratch.room()
            while chunk := content.read(CHUNK):
                length += len(chunk)
                if length > self._most:
                    raise HostError(
                        f"{self._name}: its disk has more than {self._most:,} bytes", "write a larger capacity"
                    )
                if chunk == ZEROS[: len(chunk)]:
                    file.seek(len(chunk), os.SEEK_CUR)
                    continue
                data += len(chunk)
                if data > room:
                    raise HostError(f"{scratch.folder()} has no room for {self._name}", "free some space there")
                file.write(chunk)
            file.truncate()
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file  # type: ignore[no-any-return]
