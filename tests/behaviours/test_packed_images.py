"""Images as vendors publish them: compressed, or of another format, unpacked and converted on the way into a volume."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest
from harness import Project, pool, resource
from oci_archive import archive, member
from oci_archive import layer as oci_layer
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


def converted(path: Path, format_: str, tmp_path: Path) -> Path:
    (tmp_path / "raw").write_bytes(IMAGE.ljust(24 * MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, str(tmp_path / "raw"), str(path)], check=True)
    return path


def test_images_of_other_formats_are_converted(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = converted(tmp_path / "a.vmdk", "vmdk", tmp_path)
    packed = gzip.compress(image.read_bytes())
    layer = converted(tmp_path / "a.qcow2", "qcow2", tmp_path)
    (tmp_path / "container").write_bytes(archive(oci_layer(member("disk/vm.qcow2", layer.read_bytes()))))
    with web_server(packed) as url:
        project.converge(
            pool(),
            resource("Volume", "a", pool="images", capacity="32MiB", content={"url": url, "checksum": sha256(packed)}),
            resource("Volume", "b", pool="images", format="raw", content={"file": str(layer)}),
            resource("Volume", "c", pool="images", content={"file": str(tmp_path / "raw")}),
            resource("Volume", "d", pool="images", format="raw", content={"file": str(tmp_path / "container")}),
        )
    images = project.path("images")
    shown = subprocess.check_output(["qemu-img", "info", "-U", images / "a"], text=True)
    assert "file format: qcow2" in shown
    assert "compat: 1.1" in shown
    assert "virtual size: 32 MiB" in shown
    wanted = (tmp_path / "raw").read_bytes()
    assert (images / "b").read_bytes() == (images / "d").read_bytes() == wanted
    assert (images / "b").stat().st_blocks * 512 < 2 * MIB
    for name in ("a", "c"):
        subprocess.run(["qemu-img", "convert", "-O", "raw", images / name, tmp_path / "read"], check=True)
        assert (tmp_path / "read").read_bytes()[: len(wanted)] == wanted
    assert [*(tmp_path / "cache" / "kvmstate" / "content").glob("*")] == []


def test_an_image_that_was_cut_off_is_refused_before_anything_is_made(project: Project, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(os.urandom(4 * MIB))
    cut = converted(tmp_path / "cut.qcow2", "qcow2", tmp_path)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    content = {"file": str(cut)}
    same = resource("Volume", "same.qcow2", pool="images", content=content)
    other = resource("Volume", "other.raw", pool="images", format="raw", content=content)
    project.write(pool(), same, other)
    applied = project.apply()
    assert applied.code == 1
    assert applied.out.count(f"{cut} is damaged, or only a part of it") == 2
    assert not project.path("images/same.qcow2").exists()
    assert not project.path("images/other.raw").exists()
    cut.write_bytes(whole)
    project.converge()


def test_a_source_that_is_refused_leaves_the_volume_that_it_was_to_replace(project: Project, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    allowed = {"replace": "allow"}
    content = {"file": str(tmp_path / "image"), "checksum": sha256(IMAGE)}
    project.converge(pool(), resource("Volume", "a", allowed, pool="images", format="raw", content=content))
    known = project.path("images/a").stat().st_ino
    with web_server(b"<html>not found</html>") as url:
        content = {"url": url, "checksum": sha256(IMAGE)}
        project.write(pool(), resource("Volume", "a", allowed, pool="images", format="qcow2", content=content))
        applied = project.apply()
    assert applied.code == 1
    assert "is not a disk" in applied.out
    assert project.path("images/a").stat().st_ino == known
    assert project.path("images/a").read_bytes() == IMAGE
    content = {"file": str(tmp_path / "image"), "checksum": sha256(IMAGE)}
    project.converge(pool(), resource("Volume", "a", allowed, pool="images", format="raw", content=content))
    assert project.path("images/a").stat().st_ino == known, "the failed replacement is forgotten"


def test_a_volume_that_somebody_else_made_meanwhile_is_not_taken(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    """A change that failed before it made anything leaves no record that would own what others make."""
    with web_server(b"<html>not found</html>") as url:
        content = {"url": url, "checksum": sha256(IMAGE)}
        project.write(pool(), resource("Volume", "a", pool="images", format="qcow2", content=content))
        assert project.apply().code == 1
        project.path("images/a").write_bytes(IMAGE)
        connection.storagePoolLookupByName("images").refresh()
        planned = project.plan()
    assert "kvmstate adopt" in planned.out
    assert "interrupted" not in planned.out
    assert project.path("images/a").read_bytes() == IMAGE
