"""Compressed images: whole and right, or a clear error, in bounded memory; a bomb fills nothing."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK
from kvmstate.kinds.volume import content, unpack
from kvmstate.kinds.volume.content import Source
from kvmstate.kinds.volume.spec import Content

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
# data, zeros that are aligned to nothing, and an end that fills no block
IMAGE = os.urandom(300_001) + bytes(3 * MIB) + os.urandom(70_000) + bytes(100) + os.urandom(77)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstd.compress,
}


def read(path: Path, capacity: int | None = None, room: int = 1 << 40, checksum: str | None = None) -> bytes:
    with Source(Content(file=str(path), checksum=checksum)).open() as stream:
        return b"".join(bytes(c) if isinstance(c, int) else c for c in stream.bounded(capacity, room))


def held(path: Path) -> int:
    """How much of it is data."""
    with Source(Content(file=str(path))).open() as stream:
        return sum(len(chunk) for chunk in stream if isinstance(chunk, bytes))


@pytest.mark.parametrize("kind", PACKERS)
def test_it_is_what_was_packed(kind: str, tmp_path: Path) -> None:
    pack, path = PACKERS[kind], tmp_path / "image"
    # two streams, and the zeros that fill a tape's block
    path.write_bytes(pack(IMAGE[:1000]) + pack(IMAGE[1000:]) + bytes(512))
    published = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert read(path, checksum=published) == IMAGE
    assert held(path) < 600_000, "zeros are holes"
    with pytest.raises(HostError, match="its sha256 is"):
        read(path, checksum="sha256:" + "0" * 64)


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_not_whole_is_an_error(kind: str, tmp_path: Path) -> None:
    whole, path = PACKERS[kind](IMAGE), tmp_path / "image"
    for end in (20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(HostError, match=f"{kind} cannot unpack it"):
            read(path)
    for more in (b"x", b"\0\0x" * 1000, whole[:30]):
        path.write_bytes(whole + more)
        with pytest.raises(HostError, match=f"{kind} cannot unpack it"):
            read(path)
    path.write_bytes(PACKERS[kind](b""))
    with pytest.raises(HostError, match="empty"):
        read(path)


@pytest.mark.parametrize("kind", PACKERS)
def test_damage_is_an_error_or_shows_in_the_bytes(kind: str, tmp_path: Path) -> None:
    """Nothing else than an error that people can read comes of it."""
    whole, path = PACKERS[kind](IMAGE[:200_000]), tmp_path / "image"
    seed = random.Random(os.environ.get("KVMSTATE_TEST_SEED", "packed"))
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(seed.randint(1, 4)):
            damaged[seed.randrange(len(damaged) if seed.random() < 0.5 else 40)] = seed.randrange(256)
        path.write_bytes(damaged)
        with suppress(HostError):
            read(path)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_takes_neither_memory_nor_room(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(PACKERS[kind](bytes(64 * MIB)))
    tracemalloc.start()
    with pytest.raises(HostError, match="unpacked, it has more than 10,485,760 bytes") as error:
        read(path, capacity=10 * MIB)
    assert error.value.hint
    seen = 0
    with Source(Content(file=str(path))).open() as stream:
        for chunk in stream:
            assert isinstance(chunk, int)
            seen += chunk
    assert seen == 64 * MIB
    assert tracemalloc.get_traced_memory()[1] < 32 * MIB, "that is what xz works in, twice"
    tracemalloc.stop()


def test_without_a_capacity_there_is_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MOST", 8 * MIB)
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(9 * MIB)))
    with pytest.raises(HostError, match="unpacked, it has more than"):
        read(path)


def test_a_bomb_of_data_leaves_room_in_the_pool(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b"bomb" * (16 * MIB)))
    with pytest.raises(HostError, match="more data than"):
        read(path, room=8 * MIB)


def test_who_asks_for_too_much_memory_gets_none(tmp_path: Path) -> None:
    path = tmp_path / "image"
    small = lzma.compress(IMAGE)
    # the size of its dictionary stands in the header of the first block, which ends with a CRC
    at = small.index(b"\x21\x01", 12) + 2
    header = bytearray(small[12 : 12 + (small[12] + 1) * 4 - 4])
    header[at - 12] = 38
    path.write_bytes(small[:12] + header + zlib.crc32(header).to_bytes(4, "little") + small[12 + len(header) + 4 :])
    with pytest.raises(HostError, match=r"xz cannot unpack it: .*[Mm]emory") as error:
        read(path)
    assert "smaller window" in error.value.hint
    options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.enable_long_distance_matching: 1}
    long = zstd.ZstdCompressor(options=options)
    path.write_bytes(long.compress(IMAGE * 100) + long.flush())
    with pytest.raises(HostError, match=r"zstd cannot unpack it: .*memory"):
        read(path)


def test_names_decide_nothing(tmp_path: Path) -> None:
    (tmp_path / "image.xz").write_bytes(IMAGE)
    assert read(tmp_path / "image.xz") == IMAGE
    for head in (b"", b"BZh", b"BZh9" + bytes(20), b"PK\3\4", b"\x1f\x8b", bytes(512)):
        assert not unpack.packed(head)


def test_zeros_become_holes_wherever_they_begin() -> None:
    seed = random.Random(os.environ.get("KVMSTATE_TEST_SEED", "holes"))
    for _ in range(300):
        image = b"".join(
            seed.choice((bytes, os.urandom))(seed.choice((1, 4096, unpack.PIECE, CHUNK, 3 * unpack.PIECE + 5)))
            for _ in range(seed.randint(1, 8))
        )
        cuts = sorted(seed.randrange(len(image) + 1) for _ in range(6))
        pieces = [image[a:b] for a, b in zip([0, *cuts], [*cuts, len(image)], strict=True)]
        chunks = [*unpack.sparse(unpack.blocks(pieces))]
        assert b"".join(bytes(c) if isinstance(c, int) else c for c in chunks) == image
        assert all(c if isinstance(c, int) else 0 < len(c) <= CHUNK for c in chunks)
