"""What a volume holds at first: an image from a file or an http(s) address, checked while it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK
from kvmstate.kinds.volume import header
from kvmstate.kinds.volume.download import SPOOLED, Download, download
from kvmstate.kinds.volume.spec import Content
from kvmstate.model.files import open_regular
from kvmstate.model.uri import redacted


class Stream:
    """The chunks of one reading. The checksum is known at its end: the last step raises HostError when it differs."""

    def __init__(self, file: BinaryIO | Download, length: int, checksum: str | None, name: str) -> None:
        self._file = file
        self._head = file.read(CHUNK)
        if not self._head:
            raise HostError(f"{name}: the content is empty", "check the source, or leave content out")
        self._checksum = checksum
        self._name = name
        self.length = length

    def capacity(self, format_: str) -> int:
        """What the volume needs, in bytes. Raises HostError for an image that must not be uploaded in this format."""
        return header.capacity(self._head, self.length, format_, self._name)

    def __iter__(self) -> Iterator[bytes]:
        kind, _, wanted = (self._checksum or "").partition(":")
        digest = hashlib.new(kind) if wanted else None
        chunk, seen = self._head, 0
        while chunk:
            seen += len(chunk)
            if digest:
                digest.update(chunk)
            following = self._file.read(CHUNK)
            if seen > self.length or (seen < self.length and not following):
                raise HostError(f"{self._name}: {seen} of {self.length} bytes came", "apply again to redo the upload")
            if not following and digest and digest.hexdigest() != wanted:
                raise HostError(
                    f"{self._name}: its {kind} is {digest.hexdigest()}, not {wanted}",
                    "it has changed or was damaged on the way: check the source, then the checksum in the manifest",
                )
            yield chunk
            chunk = following


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
        """Raises HostError when it cannot be read, or its length is not known."""
        try:
            if path := self._content.file or SPOOLED.get(self._checksum):
                with open_regular(str(path)) as file:
                    yield Stream(file, os.fstat(file.fileno()).st_size, self._checksum, self.name)
            else:
                with download(self._content.url or "") as coming:
                    yield Stream(coming, coming.length, self._checksum, self.name)
        except OSError as error:
            raise HostError(f"{self.name}: {error}", "check that it exists and can be read from here") from error
