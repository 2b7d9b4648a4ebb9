"""Archives of OCI images: the one disk that they hold, or a clear error, in bounded memory."""

from __future__ import annotations

import gzip
import os
import random
import resource
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from oci_archive import Change, archive, layer, member, tar
from test_images import MIB, content, made

from kvmstate.errors import HostError
from kvmstate.kinds.volume import content as contents
from kvmstate.kinds.volume import oci

DISK = os.urandom(MIB) + bytes(3 * MIB)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kvmstate" / "content"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_the_disk_comes_out(pack: Callable[[bytes], bytes], cache: Path, tmp_path: Path) -> None:
    image = made(tmp_path / "disk.qcow2", "qcow2")
    base = layer(member("etc/passwd", b"root"), member("disk/old.img", b"old"))
    top = layer(member("disk", type_=tarfile.DIRTYPE), member("./disk/vm.qcow2", image))
    (tmp_path / "image").write_bytes(pack(archive(base, top)))
    assert content(tmp_path / "image") == image
    assert content(tmp_path / "image", "raw") == bytes(4 * MIB), "what it holds is converted, too"
    (tmp_path / "image").write_bytes(pack(archive(tar(member("disk/vm.img", DISK)))))
    assert content(tmp_path / "image", "raw") == DISK
    assert [*cache.glob("*")] == []


def indexed(**of: Any) -> Change:
    return lambda index: index.update(of)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "no disk": (archive(layer(member("etc/passwd", b"root"))), "no layer"),
    "nothing": (archive(), "no layer"),
    "two disks": (archive(layer(member("disk/a", DISK), member("disk/b", DISK))), "several files"),
    "a link": (archive(layer(member("disk/a", type_=tarfile.SYMTYPE, linkname="/etc/shadow"))), "no layer"),
    "a hard link": (archive(layer(member("disk/a", type_=tarfile.LNKTYPE, linkname="/etc/shadow"))), "no layer"),
    "a device": (archive(layer(member("disk/a", type_=tarfile.BLKTYPE, devmajor=8))), "no layer"),
    "a way out": (archive(layer(member("disk/../../etc/x", DISK), member("disk/../y", DISK))), "several files"),
    "a whiteout": (archive(layer(member("disk/.wh.a", b""))), "no layer"),
    "another layer": (
        archive(layer(member("disk/a", DISK)), other_layer=layer(member("disk/a", b"x" * 512))),
        "digest",
    ),
    "another manifest": (archive(layer(member("disk/a", DISK)), other_manifest=b"{}"), "digest"),
    "no manifest": (archive(layer(), index=indexed(manifests=[])), "0 images"),
    "two manifests": (archive(layer(), index=indexed(manifests=[{"digest": "a"}, {"digest": "b"}])), "2 images"),
    "a digest that leads out": (archive(layer(), index=indexed(manifests=[{"digest": "../../x"}])), "digest"),
    "manifests of no list": (archive(layer(), index=indexed(manifests=7)), "damaged"),
    "layers of no list": (archive(layer(), manifest=lambda m: m.update(layers={"a": 1})), "damaged"),
    "no digests": (archive(layer(), manifest=lambda m: m.update(layers=[{}])), "damaged"),
    "a layer that is cut off": (archive(layer(member("disk/a", DISK))[:5000]), "unpack|damaged"),
    "a layer that is no tar": (archive(gzip.compress(b"no tar" * 1000)), "damaged"),
    "an image in an image": (archive(layer(member("disk/a", archive(layer(member("disk/b", DISK)))))), "archive of"),
    "a map of holes": (archive(layer(member("disk/a", DISK, tarfile.GNUTYPE_SPARSE))), "damaged"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_is_wrong_is_told(how: str, cache: Path, tmp_path: Path) -> None:
    data, said = HOSTILE[how]
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(HostError, match=said) as error:
        content(tmp_path / "image", "raw")
    assert error.value.hint
    assert [*cache.glob("*")] == []


def test_bombs_fill_neither_memory_nor_disk(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST", 64 * MIB)
    monkeypatch.setattr(oci, "_FILES", 1000)
    zeros = bytes(200 * MIB)
    described = member("x", b"path=" + b"a" * (150 * MIB), tarfile.XHDTYPE)
    many = tar(*(member(f"etc/{n}") for n in range(2000)), member("disk/a", DISK))
    bombs = {
        "its disk has more than": archive(gzip.compress(tar(member("disk/a", zeros)))),
        "damaged": archive(gzip.compress(tar(described, member("disk/a", DISK)))),
        "too many files": archive(gzip.compress(many)),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for said, data in bombs.items():
        (tmp_path / "image").write_bytes(data)
        with pytest.raises(HostError, match=said):
            content(tmp_path / "image", "raw")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10, "KiB"


def test_damaged_archives_are_errors_or_the_disk(cache: Path, tmp_path: Path) -> None:
    whole, before = archive(layer(member("disk/a", DISK))), threading.active_count()
    seed = random.Random(os.environ.get("KVMSTATE_TEST_SEED", "oci"))
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(seed.randint(1, 5)):
            damaged[seed.randrange(512, len(damaged))] = seed.randrange(256)
        (tmp_path / "image").write_bytes(damaged)
        with suppress(HostError):
            assert content(tmp_path / "image", "raw") in (DISK, bytes(damaged))
    assert threading.active_count() <= before
