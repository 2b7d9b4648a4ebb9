"""Images from the net: what their first bytes say is bounded, and none of them names another file of the host."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kvmstate.errors import HostError
from kvmstate.kinds.volume import convert, header, scratch
from kvmstate.kinds.volume.content import Source
from kvmstate.kinds.volume.spec import Content
from kvmstate.model.stopping import stopping

MIB = 1 << 20


def made(path: Path, kind: str, *options: str) -> bytes:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), "4M"], check=True)
    return path.read_bytes()


def test_a_plain_image_is_told() -> None:
    assert header.look(b"\0" * 512, MIB, "a") == header.Image("raw", MIB)


FORGED = [
    ("qcow2", ("-b", "/etc/shadow", "-F", "raw", "-u"), "names a backing file"),
    ("qcow2", ("-b", "json:{}", "-F", "raw", "-u"), "names a backing file"),
    ("qcow2", ("-o", "compat=0.10", "-b", "/etc/shadow", "-F", "raw", "-u"), "names a backing file"),
    ("vmdk", ("-o", "subformat=monolithicFlat"), "is a VMDK image, or a part of one"),
    ("vmdk", ("-o", "subformat=twoGbMaxExtentSparse"), "is a VMDK image, or a part of one"),
    ("qed", (), "is a QED image"),
]


@pytest.mark.parametrize(("kind", "options", "said"), FORGED, ids=lambda part: part if isinstance(part, str) else "")
def test_what_leads_to_other_files_is_refused(kind: str, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    image = made(tmp_path / "image", kind, *options)
    with pytest.raises(HostError) as refused:
        header.look(image, len(image), "image")
    assert said in refused.value.message


def test_a_parent_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "parent", "vmdk")
    image = made(tmp_path / "image", "vmdk", "-b", str(tmp_path / "parent"), "-F", "vmdk")
    with pytest.raises(HostError, match="names other files"):
        header.look(image, len(image), "image")
    # nor where QEMU is asked
    with (tmp_path / "image").open("rb") as file, pytest.raises(HostError, match="names other files"):
        convert.converted(file, "vmdk", "raw", "image", lambda done, total: None)


def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path / "image", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on")
    with pytest.raises(HostError, match="names an external data file"):
        header.look(image, len(image), "image")


def forged_vmdk(path: Path, secret: Path) -> bytes:
    """A sparse image without a size, whose description names a file of the host: QEMU would read that."""
    text = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
    text += f'createType="monolithicFlat"\nRW 8 FLAT "{secret}" 0\n'
    image = bytearray(made(path, "vmdk"))
    image[12:20] = bytes(8)
    image[512 : 512 + 10240] = text.encode().ljust(10240, b"\0")
    return bytes(image)


def test_a_description_within_an_image_leads_nowhere(tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_bytes(b"secret".ljust(4096, b"!"))
    image = forged_vmdk(tmp_path / "image", secret)
    with pytest.raises(HostError, match="names other files"):
        header.look(image, len(image), "image")
    # what looks at first bytes may miss something: what QEMU tells counts as well
    (tmp_path / "image").write_bytes(image)
    with (tmp_path / "image").open("rb") as file, pytest.raises(HostError, match=r"names other files .*secret"):
        convert.converted(file, "vmdk", "raw", "image", lambda done, total: None)
    (tmp_path / "layer").write_bytes(made(tmp_path / "image", "qcow2", "-b", str(secret), "-F", "raw", "-u"))
    with (tmp_path / "layer").open("rb") as file, pytest.raises(HostError, match=r"names other files .*secret"):
        convert.converted(file, "qcow2", "raw", "image", lambda done, total: None)


def test_a_vhd_of_differences_is_refused(tmp_path: Path) -> None:
    image = bytearray(made(tmp_path / "image", "vpc"))
    assert header.look(bytes(image), len(image), "image").format == "vpc"
    image[60:64] = (4).to_bytes(4, "big")
    with pytest.raises(HostError, match="names a parent image"):
        header.look(bytes(image), len(image), "image")


def content(path: Path, format_: str = "qcow2", capacity: int | None = None) -> bytes:
    """What is uploaded of it into a volume of this format."""
    source = Source(Content(file=str(path)))
    source.prepare(format_, capacity, lambda done, total: None)
    with source.open() as stream:
        assert stream.check(format_).is_one(format_)
        return b"".join(bytes(c) if isinstance(c, int) else c for c in stream.bounded(capacity, 1 << 30))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kvmstate" / "content"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "raw"])
def test_images_are_converted(kind: str, pack: Callable[[bytes], bytes], cache: Path, tmp_path: Path) -> None:
    image, written = tmp_path / "image", os.urandom(MIB)
    (tmp_path / "raw").write_bytes(bytes(MIB) + written + bytes(2 * MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, str(tmp_path / "raw"), str(image)], check=True)
    image.write_bytes(pack(image.read_bytes()))
    (tmp_path / "made.qcow2").write_bytes(content(image))
    read = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(tmp_path / "made.qcow2"), str(tmp_path / "read")]
    subprocess.run(read, check=True)
    assert (tmp_path / "read").read_bytes()[: 4 * MIB] == (tmp_path / "raw").read_bytes()
    assert content(image, "raw")[: 4 * MIB] == (tmp_path / "raw").read_bytes()
    assert [*cache.glob("*")] == [], "nothing is left"


def test_what_is_no_disk_is_not_converted(cache: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    iso = bytes(32769) + b"CD001" + bytes(2042)
    tar = bytes(257) + b"ustar\x0000" + bytes(10240 - 265)
    for data, said in ((iso, "an ISO image"), (tar, "a tar archive"), (b"<html>" * 100, "not a disk")):
        for packed in (data, gzip.compress(data)):
            image.write_bytes(packed)
            with pytest.raises(HostError, match=f"is {said}"):
                content(image)
    image.write_bytes(made(tmp_path / "other", "vdi"))
    with pytest.raises(HostError, match="format is iso"):
        content(image, "iso")


def test_damaged_images_are_refused_or_converted(cache: Path, tmp_path: Path) -> None:
    """Whatever is wrong in an image: an error that names it, in bounded time, and nothing is left."""
    seed = random.Random(os.environ.get("KVMSTATE_TEST_SEED", "damaged"))
    for kind in ("qcow2", "vmdk", "vdi", "vhdx", "vpc"):
        whole = made(tmp_path / "whole", kind)
        for _ in range(4):
            damaged = bytearray(whole[: seed.choice((1024, len(whole) // 2, len(whole)))])
            for _ in range(seed.randint(1, 20)):
                damaged[seed.randrange(8, min(len(damaged), 4096))] = seed.randrange(256)
            (tmp_path / "image").write_bytes(damaged)
            with suppress(HostError):
                content(tmp_path / "image", "raw", capacity=64 * MIB)
    assert [*cache.glob("*")] == []


def test_an_image_that_is_larger_than_there_is_room_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", str(image), "4M"], check=True)
    subprocess.run(["qemu-io", "-f", "vmdk", "-c", "write 0 3M", str(image)], check=True, capture_output=True)
    monkeypatch.setattr(scratch, "room", lambda: 2 * MIB)
    with pytest.raises(HostError, match=r"has no room for .*image as raw: it needs") as error:
        content(image, "raw")
    assert "XDG_CACHE_HOME" in error.value.hint


def test_a_conversion_ends_with_the_process(cache: Path, tmp_path: Path) -> None:
    made(tmp_path / "image", "vmdk")
    stopping.set()
    try:
        with pytest.raises(HostError, match="interrupted"):
            content(tmp_path / "image", "raw")
    finally:
        stopping.clear()
    assert [*cache.glob("*")] == []


def test_without_the_program_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "image", "vmdk")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no qemu-img here") as error:
        Source(Content(file=str(tmp_path / "image"))).look("qcow2", None)
    assert "qemu-utils" in error.value.hint


def test_damaged_headers_are_refused_or_bounded(tmp_path: Path) -> None:
    """10,000 images of which some bytes are others: an answer or a clear error, at once."""
    whole, seed = (
        made(tmp_path / "image", "qcow2")[:4096],
        random.Random(os.environ.get("KVMSTATE_TEST_SEED", "images")),
    )
    began = time.process_time()
    for _ in range(10_000):
        image = bytearray(whole[: seed.choice((0, 1, 4, 16, 71, 72, 104, 4096))])
        for _ in range(seed.randint(0, 8)):
            if image:
                image[seed.randrange(min(len(image), 120))] = seed.randrange(256)
        with suppress(HostError):
            assert 0 <= header.look(bytes(image), len(image), "image").capacity < 1 << 64
            assert not (image.startswith(b"QFI\xfb") and any(image[8:16])), "a backing file was not seen"
    assert time.process_time() - began < 5
