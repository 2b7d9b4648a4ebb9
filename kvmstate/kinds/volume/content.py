"""What a volume holds at first: an image from a file or an http(s) address, checked and unpacked while it is read."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK, ZEROS
from kvmstate.kinds.volume import header, unpack
from kvmstate.kinds.volume.download import SPOOLED, Download, download
from kvmstate.kinds.volume.spec import Content
from kvmstate.model.files import open_regular
from kvmstate.model.uri import redacted

# The most that is unpacked where no capacity is said
MOST = 100 << 30


class Stream:
    """The chunks of one reading; for a hole in a file its length, as holes are not read. What is compressed is
    unpacked. The checksum, of what was published, is known at its end: the last step raises HostError when it differs.
    """

    def __init__(self, file: BinaryIO | Download, length: int, checksum: str | None, name: str) -> None:
        self._file = file
        self._first = file.read(CHUNK)
        self._checksum = checksum
        self._name = name
        # of what is published: its bytes, and those read so far
        self.length, self.taken = length, 0
        chunks = self._published()
        self.packed = unpack.packed(self._first)
        self._head = self._first
        if self.packed:
            blocks = unpack.blocks(unpack.unpacked(self.packed, _read(chunks), name))
            self._head = next(blocks, b"")
            chunks = unpack.sparse(chain([self._head], blocks))
        if not self._head:
            raise HostError(f"{name}: the content is empty", "check the source, or leave content out")
        self._chunks = chunks

    @property
    def size(self) -> int | None:
        """Bytes of the image; None for one that is compressed: nobody knows before it is unpacked."""
        return None if self.packed else self.length

    def capacity(self, format_: str) -> int:
        """What the volume needs, in bytes, 0 where nobody knows. Raises HostError for an image that must not be
        uploaded in this format."""
        return header.capacity(self._head, self.size or 0, format_, self._name)

    def __iter__(self) -> Iterator[bytes | int]:
        return iter(self._chunks)

    def bounded(self, capacity: int | None, room: int) -> Iterator[bytes | int]:
        """All of it, to be written into a volume of this capacity, if one is said, in a pool with so much room. Raises
        HostError where what was compressed comes to more, before the pool is full: others run on it."""
        # an image has tables beside what a guest sees
        length = (capacity or MOST) + ((capacity or MOST) // 16 + (64 << 20) if header.is_qcow2(self._head) else 0)
        data = room - room // 20
        seen = written = 0
        for chunk in self:
            if isinstance(chunk, int):
                seen += chunk
            else:
                seen, written = seen + len(chunk), written + len(chunk)
            if self.packed and seen > length:
                hint = "write a larger capacity, if it is meant to be so large"
                raise HostError(f"{self._name}: unpacked, it has more than {length:,} bytes", hint)
            if self.packed and written > data:
                raise HostError(
                    f"{self._name}: unpacked, it has more data than the {data:,} bytes that its pool has room for",
                    "free some space, or choose another pool",
                )
            yield chunk

    def _published(self) -> Iterator[bytes | int]:
        """The bytes as they are published."""
        kind, _, wanted = (self._checksum or "").partition(":")
        digest = hashlib.new(kind) if wanted else None
        pieces = self._pieces()
        piece: bytes | int = self._first
        while piece:
            size = piece if isinstance(piece, int) else len(piece)
            self.taken += size
            if digest and isinstance(piece, bytes):
                digest.update(piece)
            elif digest:
                for at in range(0, size, len(ZEROS)):
                    digest.update(ZEROS[: size - at])
            following = next(pieces, 0)
            if self.taken > self.length or (self.taken < self.length and not following):
                raise HostError(
                    f"{self._name}: {self.taken} of {self.length} bytes came", "apply again to redo the upload"
                )
            if not following and digest and digest.hexdigest() != wanted:
                raise HostError(
                    f"{self._name}: its {kind} is {digest.hexdigest()}, not {wanted}",
                    "it has changed or was damaged on the way: check the source, then the checksum in the manifest",
                )
            yield piece
            piece = following

    def _pieces(self) -> Iterator[bytes | int]:
        """What comes after the head."""
        if isinstance(self._file, Download):
            while chunk := self._file.read(CHUNK):
                yield chunk
            return
        number, at = self._file.fileno(), len(self._first)
        while at < (end := os.fstat(number).st_size):
            data, until = _next_data(number, at, end)
            if data > at:
                yield data - at
            while data < until and (chunk := os.pread(number, min(CHUNK, until - data), data)):
                data += len(chunk)
                yield chunk
            at = max(data, until)


def _read(pieces: Iterable[bytes | int]) -> Iterator[bytes]:
    """With the zeros of holes."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from (ZEROS[: piece - at] for at in range(0, piece, CHUNK))


def _next_data(number: int, at: int, end: int) -> tuple[int, int]:
    """Where in a file there is data next, and up to where: all up to its `end` where its file system keeps no holes."""
    try:
        data = os.lseek(number, at, os.SEEK_DATA)
        return data, os.lseek(number, data, os.SEEK_HOLE)
    except OSError as error:
        return (end, end) if error.errno == errno.ENXIO else (at, end)


class Source:
    """Where content comes from."""

    def __init__(self, content: Content, checksum: str = "") -> None:
        """`checksum` counts where the content has none of its own."""
        self._content = content
        self._checksum = content.checksum or checksum
        # what its query holds may be a secret
        self.name = content.file or redacted(content.url or "")

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """Open the content. Raises HostError when it cannot be read, or its length is not known."""
        try:
            if path := self._content.file or SPOOLED.get(self._checksum):
                with open_regular(str(path)) as file:
                    yield Stream(file, os.fstat(file.fileno()).st_size, self._checksum, self.name)
            else:
                with download(self._content.url or "") as coming:
                    yield Stream(coming, coming.length, self._checksum, self.name)
        except OSError as error:
            raise HostError(f"{self.name}: {error}", "check that it exists and can be read from here") from error
