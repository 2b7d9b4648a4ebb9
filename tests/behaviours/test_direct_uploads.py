"""On one machine an image is written to its volume's file past libvirt, which is proven to be that file."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest
from harness import Project, pool, resource
from test_uploads import IMAGE, MIB, sha256
from trouble import loop_devices

from kvmstate.host import direct, volumes

pytestmark = pytest.mark.real


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes that are filled through libvirt."""
    seen: list[str] = []
    upload = volumes.upload

    def noting(connection: Any, volume: Any, *rest: Any) -> None:
        seen.append(volume.name)
        upload(connection, volume, *rest)

    monkeypatch.setattr(volumes, "upload", noting)
    return seen


def raw(name: str, file: Path, **content: Any) -> dict[str, Any]:
    return resource("Volume", name, pool="images", format="raw", content={"file": str(file), **content})


def test_it_is_written_past_libvirt_and_stays_libvirts(
    project: Project, tmp_path: Path, connection: libvirt.virConnect, streamed: list[str]
) -> None:
    (tmp_path / "image").write_bytes(IMAGE + bytes(8 * MIB) + IMAGE)
    project.converge(pool(), resource("Volume", "empty", pool="images", format="raw", capacity="1MiB"))
    project.converge(
        pool(),
        resource("Volume", "empty", pool="images", format="raw", capacity="1MiB"),
        raw("base", tmp_path / "image"),
        resource("Volume", "base.qcow2", pool="images", capacity="64MiB", content={"file": str(tmp_path / "image")}),
    )
    assert streamed == []
    made, by_libvirt = project.path("images/base"), project.path("images/empty")
    assert made.read_bytes() == (tmp_path / "image").read_bytes()
    assert made.stat().st_blocks * 512 < 3 * MIB
    for part in ("st_uid", "st_gid", "st_mode"):
        assert getattr(made.stat(), part) == getattr(by_libvirt.stat(), part)
    # it knows at once what there is
    told = connection.storagePoolLookupByName("images").storageVolLookupByName("base.qcow2")
    assert told.info()[1] == 64 * MIB
    assert connection.storagePoolLookupByName("images").storageVolLookupByName("base").info()[1] == 10 * MIB
    subprocess.run(["qemu-img", "check", "-q", str(project.path("images/base.qcow2"))], check=True)


def test_it_is_on_the_disk_before_it_counts_as_whole(
    project: Project, tmp_path: Path, streamed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    project.write(pool(), raw("base", tmp_path / "image"))

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(direct.os, "fdatasync", full)
    refused = project.apply()
    assert refused.code == 1
    assert "the storage is full" in refused.err
    monkeypatch.undo()
    assert "its upload was interrupted" in project.plan().out
    project.converge()
    assert project.path("images/base").read_bytes() == IMAGE


def test_what_is_reserved_for_a_volume_stays_reserved(project: Project, tmp_path: Path, streamed: list[str]) -> None:
    (tmp_path / "image").write_bytes(IMAGE + bytes(3 * MIB))
    base = raw("base", tmp_path / "image")
    project.converge(pool(), {**base, "spec": {**base["spec"], "allocation": "4MiB"}})
    assert streamed == []
    assert project.path("images/base").stat().st_blocks * 512 >= 4 * MIB
    assert project.path("images/base").read_bytes() == (tmp_path / "image").read_bytes()


@pytest.mark.parametrize("how", ["another file", "a link", "two names", "made at the same moment"])
def test_what_is_not_proven_goes_through_libvirt(
    how: str, project: Project, tmp_path: Path, streamed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    project.converge(pool())
    other = tmp_path / "other"
    other.write_bytes(b"somebody's data")
    before = other.stat()

    def ways(path: str) -> list[str]:
        real = project.path("images/base")
        if how == "a link":
            (tmp_path / "link").symlink_to(real)
            return [str(tmp_path / "link")]
        if how == "two names":
            os.link(real, tmp_path / "twice")
            return [str(real)]
        if how == "made at the same moment":
            monkeypatch.setattr(direct, "nanoseconds", lambda told: before.st_ctime_ns)
        return ["/nowhere", "/dev", str(other)]

    look = direct._seen
    monkeypatch.setattr(direct, "_seen", lambda sight, volume: look(SimpleNamespace(ways=ways), volume))  # type: ignore[arg-type]
    project.write(pool(), raw("base", tmp_path / "image"))
    assert project.apply().code == 0
    assert streamed == ["base"]
    assert project.path("images/base").read_bytes() == IMAGE
    assert other.read_bytes() == b"somebody's data"
    assert other.stat().st_mtime_ns == before.st_mtime_ns


def test_blocks_are_shared_where_the_file_system_can(project: Project, tmp_path: Path, streamed: list[str]) -> None:
    folder = "/var/lib/libvirt/behaviours/data"
    image = project.host.directory / "device-shared.img"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    with loop_devices(project.uri) as loop:
        mounted = resource(
            "StoragePool", "data", type="fs", source={"device": loop(image), "format": "xfs"}, target={"path": folder}
        )
        project.converge(mounted)
        # the same file system, seen from here
        there = tmp_path / "there"
        there.mkdir()
        subprocess.run(["mount", mounted["spec"]["source"]["device"], there], check=True)
        (there / "source").write_bytes(os.urandom(32 * MIB))
        try:
            os.sync()
            free = os.statvfs(there).f_bfree
            content = {"file": str(there / "source"), "checksum": sha256((there / "source").read_bytes())}
            base = resource("Volume", "base", pool="data", format="raw", content=content)
            project.converge(mounted, base)
            os.sync()
            assert streamed == []
            assert (there / "base").read_bytes() == (there / "source").read_bytes()
            assert (free - os.statvfs(there).f_bfree) * os.statvfs(there).f_frsize < 2 * MIB

            other = {**content, "checksum": sha256(b"other")}
            project.write(mounted, base, resource("Volume", "wrong", pool="data", format="raw", content=other))
            applied = project.apply()
            assert "its sha256 is" in applied.out
            assert "its upload was interrupted" in project.plan().out
        finally:
            subprocess.run(["umount", there], check=True)
