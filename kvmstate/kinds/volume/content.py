"""What a volume holds at first: an image from a file or an http(s) address, checked and unpacked while it is read."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK, ZEROS
from kvmstate.kind.build import Build
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume import cache, convert, header, scratch, unpack
from kvmstate.kinds.volume.download import SPOOLED, Download, download
from kvmstate.kinds.volume.growth import ungrown
from kvmstate.kinds.volume.seed import iso
from kvmstate.kinds.volume.spec import Content
from kvmstate.model.files import open_regular
from kvmstate.model.uri import redacted

if TYPE_CHECKING:
    from kvmstate.host import Host
    from kvmstate.kinds.volume.encryption import Encryption

# The most that is unpacked where no capacity is said
MOST = 100 << 30


class Stream:
    """The chunks of one reading; for a hole in a file its length, as holes are not read. What is compressed is
    unpacked. The checksum, of what was published, is known at its end: the last step raises HostError when it differs.
    """

    def __init__(
        self,
        file: BinaryIO | Download,
        length: int,
        checksum: str | None,
        name: str,
        ours: bool = False,
        keeping: cache.Kept | None = None,
    ) -> None:
        """`ours`: it has been unpacked, and checked. `keeping`: where it is kept while it is read."""
        self._file, self._ours, self._keeping = file, ours, keeping
        self._first = file.read(CHUNK)
        self._checksum = checksum
        self._name = name
        # of what is published: its bytes, and those read so far
        self.length, self.taken = length, 0
        chunks = self._published()
        self.packed = "" if ours else unpack.packed(self._first)
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

    @property
    def taken_here(self) -> int:
        """Bytes of the file without its holes, which are not copied; 0 where nobody knows."""
        if self.packed or isinstance(self._file, Download):
            return 0
        return min(self.length, os.fstat(self._file.fileno()).st_blocks * 512)

    @property
    def has_boot_record(self) -> bool:
        """Whether it starts as a disk with partitions does (GPT's too)."""
        return self._head[510:512] == b"\x55\xaa"

    def image(self) -> header.Image:
        """What it is. Raises HostError for what must not be uploaded."""
        return header.look(self._head, self.size or 0, self._name)

    def check(self, format_: str) -> header.Image:
        """What it is, for a volume of this format. Raises HostError where it is another one that is not converted."""
        image = self.image()
        if image.is_one(format_):
            return image
        if format_ == "iso":
            raise HostError(
                f"{self._name} is a {image.format} image, but the volume's format is iso",
                f"write format: {'qcow2' if image.format == 'qcow2' else 'raw'}",
            )
        if image.format == "raw" and (what := header.no_disk(self._head) or (image.capacity % 512 and "not a disk")):
            raise HostError(
                f"{self._name} is {what}, and is not converted to {format_}",
                "write format: iso" if "ISO" in str(what) else "check the source; format: raw takes it as it is",
            )
        return image

    def check_clear(self) -> None:
        """Check that it is not encrypted. Raises HostError."""
        if header.is_encrypted(self._head):
            hint = (
                "leave encryption out of the volume, and write it into the machine's disk: {format: luks, secret: ...}"
            )
            raise HostError(f"{self._name} is encrypted already", hint)

    def check_whole(self) -> None:
        """Check that a qcow2 image is all there, where no checksum tells. Raises HostError."""
        if not (self._checksum or self._ours or self.packed or isinstance(self._file, Download)):
            convert.check_whole(self._file, self._name)

    def __iter__(self) -> Iterator[bytes | int]:
        return iter(self._chunks)

    def bounded(self, capacity: int | None, room: int) -> Iterator[bytes | int]:
        """All of it, to be written into a volume of this capacity, if one is said, in a pool with so much room. Raises
        HostError where what was compressed comes to more, before the pool is full: others run on it."""
        # an image has tables beside what a guest sees
        length = (capacity or MOST) + ((capacity or MOST) // 16 + (64 << 20) if self.image().format != "raw" else 0)
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
            if (self.packed or self._ours) and written > data:
                raise HostError(
                    f"{self._name}: it has more data than the {data:,} bytes that there is room for",
                    "free some space where it is written to",
                )
            yield chunk

    def cloned(self, clone: Callable[[int], bool], number: int) -> bool:
        """Have a file share all blocks of this one, where it is one and `clone` can; `number` is that other file, whose
        checksum is compared then. Raises HostError as the last step of a reading does."""
        if self.packed or isinstance(self._file, Download) or not clone(self._file.fileno()):
            return False
        if self._checksum:
            with open(f"/proc/self/fd/{number}", "rb") as made:
                for _ in Stream(made, os.fstat(number).st_size, self._checksum, self._name):
                    pass
        return True

    @contextmanager
    def as_file(self, capacity: int | None, progress: Progress) -> Iterator[BinaryIO]:
        """A file with all of it, whose checksum has been compared. Raises OSError where there is no room for it."""
        if not self.packed and not isinstance(self._file, Download):
            for _ in self if self._checksum else ():
                progress(self.taken, self.length)
            self._file.seek(0)
            yield self._file
            return
        with tempfile.TemporaryFile(dir=scratch.folder()) as file:
            for chunk in self.bounded(capacity, scratch.room()):
                if isinstance(chunk, int):
                    file.seek(chunk, os.SEEK_CUR)
                else:
                    file.write(chunk)
                progress(self.taken, self.length)
            file.truncate()
            file.seek(0)
            yield file

    def _published(self) -> Iterator[bytes | int]:
        """The bytes as they are published."""
        kind, _, wanted = (self._checksum or "").partition(":")
        digest = hashlib.new(kind) if wanted else None
        pieces = self._pieces()
        piece: bytes | int = self._first
        while piece:
            size = piece if isinstance(piece, int) else len(piece)
            self.taken += size
            if self._keeping and isinstance(piece, bytes):
                self._keeping.write(piece)
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
            if not following and self._keeping:
                self._keeping.whole()
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
    """Where content comes from. `capacity`: what its volume needs in bytes, 0 where nobody knows; set by `prepare`."""

    def __init__(self, content: Content, checksum: str = "", name: str = "") -> None:
        """`checksum` counts where the content has none of its own, and so does `name`."""
        self._content = content
        self._checksum = content.checksum or checksum
        self._converted: BinaryIO | None = None
        self.capacity = 0
        # what its query holds may be a secret
        self.name = content.file or redacted(content.url or "") or name or "seed"

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """Open the content. Raises HostError when it cannot be read, or its length is not known."""
        try:
            if self._converted:
                # its checksum has been compared
                with open(f"/proc/self/fd/{self._converted.fileno()}", "rb") as file:
                    yield Stream(file, os.fstat(file.fileno()).st_size, None, self.name, ours=True)
            elif seed := self._content.seed:
                with tempfile.TemporaryFile() as file:
                    file.write(iso(seed))
                    file.seek(0)
                    yield Stream(file, os.fstat(file.fileno()).st_size, None, self.name)
            elif path := self._content.file or SPOOLED.get(self._checksum):
                with open_regular(str(path)) as file:
                    yield Stream(file, os.fstat(file.fileno()).st_size, self._checksum, self.name)
            elif kept := cache.find(self._checksum):
                with open_regular(kept) as file:
                    try:
                        yield Stream(file, os.fstat(file.fileno()).st_size, self._checksum, self.name)
                    except HostError:
                        # it may be damaged
                        cache.forget(self._checksum)
                        raise
            else:
                with (
                    download(self._content.url or "") as coming,
                    cache.keeping(self._checksum, coming.length) as keeping,
                ):
                    yield Stream(coming, coming.length, self._checksum, self.name, keeping=keeping)
        except OSError as error:
            raise HostError(f"{self.name}: {error}", "check that it exists and can be read from here") from error

    def look(self, format_: str, capacity: int | None, encrypts: bool = False) -> header.Image:
        """What it is, for a volume of this format and capacity, which is encrypted or not. Raises HostError where it
        must not be uploaded, or converted, or does not fit."""
        with self.open() as stream:
            image, taken = stream.check(format_), stream.taken_here
            if encrypts:
                stream.check_clear()
        converts = image.format != header.OCI and not image.is_one(format_)
        if converts and (why := convert.missing(self.name, image.format, format_)):
            raise why
        if capacity and capacity < image.capacity:
            raise HostError(
                f"capacity is less than what the content needs ({image.capacity} bytes)",
                "raise capacity or leave it out",
            )
        grows = capacity and image.capacity < capacity and not (encrypts or converts)
        if grows and (more := ungrown(taken, capacity or 0)):
            raise HostError(*more)
        return image

    def prepare(self, format_: str, capacity: int | None, progress: Progress, encrypts: bool = False) -> None:
        """Look at it, and convert it where it has another format. Raises HostError as `look` does."""
        self._converted = None
        image = self.look(format_, capacity, encrypts)
        # an archive holds an image, which may have another format
        for _ in range(2):
            if image.is_one(format_):
                break
            if self._converted and image.format == header.OCI:
                raise HostError(f"{self.name} is an archive of an archive", "check the source")
            self._convert(format_, capacity, progress)
            image = self.look(format_, capacity, encrypts)
        if image.format == "qcow2":
            with self.open() as stream:
                stream.check_whole()
        self.capacity = image.capacity

    def build(self, build: Build, format_: str, capacity: int | None, name: str, progress: Progress) -> None:
        """Have it built, under this name; it has the volume's format by now. Raises HostError."""
        from kvmstate.kinds.volume.guestfs import built

        with self.open() as stream:
            made = built(stream.bounded(capacity, scratch.room()), build, format_, name, progress)
        self._converted = made

    def take(self, pieces: Iterable[bytes | int], build: Build, format_: str, name: str, progress: Progress) -> None:
        """Have what comes from elsewhere built."""
        from kvmstate.kinds.volume.guestfs import built

        self._converted = built(pieces, build, format_, name, progress)

    def encrypt(self, how: Encryption, host: Host, format_: str, capacity: int | None, progress: Progress) -> None:
        """Have it encrypted; it has the volume's format by now. Raises HostError."""
        from kvmstate.kinds.volume import luks

        phrase = luks.passphrase(host, how)
        try:
            with self.open() as stream, stream.as_file(capacity, progress) as file:
                seen = max(capacity or 0, self.capacity)
                made, length = luks.encrypted(file, format_, seen, phrase, self.name, progress)
        except OSError as error:
            raise HostError(f"{scratch.folder()}: {error}", "images are encrypted in this folder") from error
        self._converted = made
        if format_ == "raw":
            self.capacity = length

    def _convert(self, format_: str, capacity: int | None, progress: Progress) -> None:
        try:
            with self.open() as stream, stream.as_file(capacity, progress) as file:
                # how long it is is known by now
                whole = Stream(file, os.fstat(file.fileno()).st_size, None, self.name, ours=True).check(format_)
                if whole.format == header.OCI:
                    from kvmstate.kinds.volume import oci

                    size = os.fstat(file.fileno()).st_size
                    most = int((capacity or MOST) * 17 / 16) + (64 << 20)
                    made = oci.disk(file, self.name, most, lambda done: progress(done, size))
                else:
                    made = convert.converted(file, whole.format, format_, self.name, progress)
        except OSError as error:
            raise HostError(f"{scratch.folder()}: {error}", "images are converted in this folder") from error
        # not before: it may be what was read
        self._converted = made
