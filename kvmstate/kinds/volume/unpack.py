"""Content that is compressed, unpacked while it is read: told by its first bytes, bounded in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK, ZEROS

# The most that a decompressor may keep of what it has unpacked, as the archive asks for: what `xz -9` and `zstd --long`
# take
WINDOW_LOG = 27
# Zeros are looked for in pieces of this length; several of them fit into one CHUNK
PIECE = 65536
_BLOCK = CHUNK // PIECE * PIECE


class _Engine(Protocol):
    """Unpacks one stream, as the decompressors of the standard library do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor, with the words of the others."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # there may be more to come of what it has taken in
        self._full = len(out) == max_length
        return out


def _xz() -> _Engine:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=(1 << WINDOW_LOG) + (8 << 20))


def _bz2() -> _Engine:
    import bz2

    return bz2.BZ2Decompressor()


def _zstd() -> _Engine:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    engine: Any = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
    return engine  # type: ignore[no-any-return]


_ENGINES: dict[str, Callable[[], _Engine]] = {"gzip": _Gzip, "xz": _xz, "bzip2": _bz2, "zstd": _zstd}


def packed(head: bytes) -> str:
    """How content that starts with `head` is compressed; an empty text where it is not."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    # one of its frames, or one to be skipped, which pzstd starts with
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return "zstd"
    return ""


def unpacked(kind: str, pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """What `pieces` hold, at most CHUNK bytes at a time. Raises HostError where they are damaged, end too early, or ask
    for too much memory."""
    try:
        yield from _unpacked(_ENGINES[kind], pieces)
    except HostError:
        raise
    except Exception as error:
        # each library has errors of its own
        wants = "memory" in str(error).lower()
        hint = "compress it with a smaller window, such as xz -9 or zstd -19" if wants else "check the source"
        raise HostError(f"{name}: {kind} cannot unpack it: {str(error) or type(error).__name__}", hint) from error


def _unpacked(start: Callable[[], _Engine], pieces: Iterable[bytes]) -> Iterator[bytes]:
    engine: _Engine | None = None
    for piece in pieces:
        data = piece
        while data:
            if engine is None:
                # between two streams, and behind the last one, there may be zeros
                if not (data := data.lstrip(b"\0")):
                    break
                engine = start()
            out = engine.decompress(data, CHUNK)
            while True:
                if out:
                    yield out
                if engine.eof or engine.needs_input:
                    break
                out = engine.decompress(b"", CHUNK)
            data, engine = (engine.unused_data, None) if engine.eof else (b"", engine)
    if engine is not None:
        raise EOFError("it ends too early")


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of one length, of which only the last one is shorter."""
    parts: list[bytes] = []
    missing = _BLOCK
    for piece in pieces:
        at = 0
        while len(piece) - at >= missing:
            yield b"".join((*parts, piece[at : at + missing]))
            at, parts, missing = at + missing, [], _BLOCK
        if at < len(piece):
            parts.append(piece[at:])
            missing -= len(piece) - at
    if parts:
        yield b"".join(parts)


def sparse(chunks: Iterable[bytes]) -> Iterator[bytes | int]:
    """The same bytes, with the lengths of holes for PIECEs of zeros."""
    for chunk in chunks:
        if chunk == ZEROS[: len(chunk)]:
            yield len(chunk)
            continue
        start, hole = 0, False
        for at in range(0, len(chunk), PIECE):
            piece = chunk[at : at + PIECE]
            empty = piece == ZEROS[: len(piece)]
            if empty != hole and at:
                yield at - start if hole else chunk[start:at]
                start = at
            hole = empty
        yield len(chunk) - start if hole else chunk[start:]
