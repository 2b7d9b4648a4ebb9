"""Images as vendors publish them: compressed, unpacked on the way into a volume."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Project, pool, resource
from test_uploads import MIB, qcow2, sha256, web_server

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.real

# as long as no number of blocks or sectors
IMAGE = os.urandom(MIB) + bytes(20 * MIB) + os.urandom(777)


def test_each_kind_is_unpacked_into_a_sparse_volume(project: Project, tmp_path: Path) -> None:
    packed = {
        "gz": gzip.compress(IMAGE),
        "xz": lzma.compress(IMAGE),
        "bz2": bz2.compress(IMAGE),
        "zst": zstd.compress(IMAGE),
    }
    manifests = [pool()]
    for name, content in packed.items():
        # its name says nothing
        (tmp_path / f"{name}.img").write_bytes(content)
        said = {"file": str(tmp_path / f"{name}.img"), "checksum": sha256(content)}
        manifests.append(resource("Volume", name, pool="images", format="raw", content=said))
    image = qcow2(tmp_path / "small.qcow2", "4M")
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 64k", str(image)], check=True, capture_output=True)
    content = lzma.compress(image.read_bytes())
    with web_server(content) as url:
        said = {"url": url, "checksum": sha256(content)}
        layered = resource("Volume", "layered", pool="images", capacity="8MiB", content=said)
        larger = resource(
            "Volume", "larger", pool="images", format="raw", capacity="32MiB", content=manifests[1]["spec"]["content"]
        )
        project.converge(*manifests, layered, larger)
    for name in packed:
        made = project.path("images") / name
        assert made.read_bytes() == IMAGE
        assert made.stat().st_blocks * 512 < 2 * MIB
    assert project.path("images/larger").read_bytes() == IMAGE.ljust(32 * MIB, b"\0")
    shown = subprocess.check_output(["qemu-img", "info", "-U", project.path("images/layered")], text=True)
    assert "virtual size: 8 MiB" in shown
    subprocess.run(["qemu-img", "check", "-q", project.path("images/layered")], check=True)
    read = ["qemu-io", "-r", "-c", "read -P 7 1M 64k", project.path("images/layered")]
    assert "Pattern verification failed" not in subprocess.check_output(read, text=True)


def test_what_cannot_be_unpacked_does_not_count(project: Project, tmp_path: Path) -> None:
    """A bomb, an archive that ends early, a damaged one, and another one than the checksum is of."""
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(100 * MIB)))
    (tmp_path / "short").write_bytes(lzma.compress(IMAGE)[: MIB // 2])
    damaged = bytearray(zstd.compress(IMAGE))
    damaged[MIB // 2] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    (tmp_path / "other").write_bytes(gzip.compress(IMAGE))
    says = {
        "bomb": "unpacked, it has more than 52,428,800 bytes",
        "short": "xz cannot unpack it: it ends too early",
        "damaged": "its sha256 is",
        "other": "its sha256 is",
    }
    manifests = []
    for name in says:
        content = {"file": str(tmp_path / name)}
        if name in ("damaged", "other"):
            content["checksum"] = sha256(IMAGE)
        manifests.append(resource("Volume", name, pool="images", format="raw", capacity="50MiB", content=content))
    project.write(pool(), *manifests)
    applied = project.apply()
    assert applied.code == 1
    for said in says.values():
        assert said in applied.out
    assert not project.path("images/bomb").exists() or project.path("images/bomb").stat().st_blocks * 512 < MIB
    assert project.plan().out.count("its upload was interrupted") == len(says)
    for name in says:
        content = gzip.compress(IMAGE)
        (tmp_path / name).write_bytes(content)
    whole = [{**m, "spec": {**m["spec"], "content": {"file": m["spec"]["content"]["file"]}}} for m in manifests]
    project.converge(pool(), *whole)
    for name in says:
        assert project.path(f"images/{name}").read_bytes() == IMAGE.ljust(50 * MIB, b"\0")
