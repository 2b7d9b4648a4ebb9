"""Images from the net: what their first bytes say is bounded, and none of them names another file of the host."""

from __future__ import annotations

import os
import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kvmstate.errors import HostError
from kvmstate.kinds.volume import header

MIB = 1 << 20


def made(path: Path, kind: str, *options: str) -> bytes:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), "4M"], check=True)
    return path.read_bytes()


def test_a_plain_image_is_taken(tmp_path: Path) -> None:
    image = made(tmp_path / "a", "qcow2")
    assert header.capacity(image, len(image), "qcow2", "a") == 4 * MIB
    assert header.capacity(b"\0" * 512, MIB, "raw", "a") == MIB


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("qcow2", ("-b", "/etc/shadow", "-F", "raw", "-u"), "names a backing file"),
        ("qcow2", ("-b", "json:{}", "-F", "raw", "-u"), "names a backing file"),
        ("qcow2", ("-o", "compat=0.10", "-b", "/etc/shadow", "-F", "raw", "-u"), "names a backing file"),
        ("vmdk", (), "is a VMDK image"),
        ("vmdk", ("-o", "subformat=monolithicFlat"), "is a VMDK image"),
        ("qed", (), "is a QED image"),
        ("vhdx", (), "is a VHDX image"),
        ("vpc", (), "is a VHD image"),
        ("vdi", (), "is a VDI image"),
    ],
)
@pytest.mark.parametrize("format_", ["qcow2", "raw"])
def test_what_leads_to_other_files_is_refused(
    kind: str, options: tuple[str, ...], said: str, format_: str, tmp_path: Path
) -> None:
    image = made(tmp_path / "image", kind, *options)
    with pytest.raises(HostError) as refused:
        header.capacity(image, len(image), format_, "image")
    assert said in refused.value.message or (kind, format_) == ("qcow2", "raw")


def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path / "image", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on")
    with pytest.raises(HostError, match="names an external data file"):
        header.capacity(image, len(image), "qcow2", "image")


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
            capacity = header.capacity(bytes(image), len(image), seed.choice(("raw", "qcow2")), "image")
            assert 0 <= capacity < 1 << 64
            assert not (image.startswith(b"QFI\xfb") and any(image[8:16])), "a backing file was not seen"
    assert time.process_time() - began < 5
