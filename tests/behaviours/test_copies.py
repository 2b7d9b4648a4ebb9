"""Volumes that begin as full copies of other volumes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, pool, resource
from test_formats import forged
from test_uploads import MIB

pytestmark = pytest.mark.real

IMAGE = os.urandom(MIB) + bytes(6 * MIB) + os.urandom(MIB)


def copy(name: str, of: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, lifecycle, **{"pool": "images", "content": {"volume": of}, **spec})


def source(project: Project, **spec: Any) -> dict[str, Any]:
    (project.folder / "image").write_bytes(IMAGE)
    content = {"file": str(project.folder / "image")}
    return resource("Volume", "base", **{"pool": "images", "format": "raw", "content": content, **spec})


def held(path: Path, tmp_path: Path) -> bytes:
    """What a guest sees of an image."""
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", path, tmp_path / "read"], check=True)
    return (tmp_path / "read").read_bytes()


def test_copies_are_made_in_and_across_pools_and_formats(project: Project, tmp_path: Path) -> None:
    project.converge(
        pool(),
        pool("other"),
        source(project),
        copy("same", "images/base", format="raw"),
        copy("larger.qcow2", "images/base", capacity="16MiB"),
        copy("far", "images/larger.qcow2", pool="other", format="raw"),
        # over a layer all of it is copied
        resource("Volume", "layer", pool="images", backing="images/larger.qcow2"),
        copy("flat", "images/layer", pool="other"),
    )
    images, other = project.path("images"), project.path("other")
    assert (images / "same").read_bytes() == IMAGE
    assert (images / "same").stat().st_blocks * 512 < 3 * MIB
    for path in (images / "larger.qcow2", other / "far", other / "flat"):
        assert held(path, tmp_path) == IMAGE.ljust(16 * MIB, b"\0")
    shown = subprocess.check_output(["qemu-img", "info", "-U", other / "flat"], text=True)
    assert "backing" not in shown
    assert "compat: 1.1" in shown

    # what is written to the source later is nobody's change; another source is a replacement
    made = (images / "same").stat()
    with (images / "base").open("r+b") as file:
        file.write(b"written to since")
    assert project.plan().code == 0
    rest = [pool(), pool("other"), source(project), copy("larger.qcow2", "images/base", capacity="16MiB")]
    project.write(*rest, copy("same", "images/larger.qcow2", format="raw"))
    assert "cannot change without deleting it and creating it again" in project.apply().out
    assert (images / "same").stat().st_ino == made.st_ino
    project.converge(*rest, copy("same", "images/larger.qcow2", {"replace": "allow"}, format="raw"))
    assert (images / "same").read_bytes() == IMAGE.ljust(16 * MIB, b"\0")


def test_what_must_not_be_copied_is_blocked_in_the_plan(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    base = source(project)
    web = idle("web", state="running", disks=[{"name": "data", "volume": "images/base"}])
    project.converge(pool(), base, web)
    project.write(pool(), base, web, copy("copied", "images/base"))
    assert "virtual machine web is running and writes to volume images/base" in project.plan().out
    assert project.apply().code == 1
    assert not project.path("images/copied").exists()
    project.write(pool(), base, web, copy("copied", "images/gone"))
    assert "images/gone, neither in the manifests nor on the host" in project.plan().err
    project.write(pool(), base, web, copy("copied", "images/copied"))
    assert project.plan().code == 1
    off = {**web, "spec": {**web["spec"], "state": "stopped"}}
    project.converge(pool(), base, off)
    project.write(pool(), base, off, copy("copied", "images/base", capacity="1MiB"))
    assert "capacity is less than that of volume images/base" in project.plan().out
    # what its guest has written makes libvirt take it for an image over a file of the host
    with project.path("images/base").open("r+b") as file:
        file.write(forged(project))
    connection.storagePoolLookupByName("images").refresh()
    project.write(pool(), base, off, copy("copied", "images/base", format="raw"))
    assert "is raw, and its content looks like qcow2" in project.plan().out
    assert project.apply().code == 1
    assert not project.path("images/copied").exists()


def test_the_source_may_go_when_nothing_names_it(project: Project) -> None:
    gone = {**source(project), "lifecycle": {"deletion": "delete"}}
    project.converge(pool(), gone)
    project.write(pool(), copy("copied", "images/base", format="raw"))
    assert "in use by volume/images/copied, which the manifests declare" in project.plan("--prune").out
    assert "1 added" in project.apply("--prune").out
    assert project.path("images/base").exists()
    # what it holds is what it is by now: without its source in the manifest it stays as it is
    kept = resource("Volume", "copied", pool="images", format="raw", capacity="8MiB")
    project.converge(pool(), kept, options=("--prune",))
    assert not project.path("images/base").exists()
    assert project.path("images/copied").read_bytes() == IMAGE


DIES = """
import os, time
from kvmstate.host import volumes
make = volumes.create
volumes.create = lambda pool, text, source=None: (make(pool, text, source), time.sleep(1), os._exit(9))
"""


def test_a_copy_that_was_killed_is_made_again(project: Project) -> None:
    """libvirt goes on with it: what it makes of it is not taken for whole."""
    project.converge(pool(), source(project))
    project.write(pool(), source(project), copy("copied", "images/base", format="raw"))
    assert project.start_apply(first=DIES).wait() == 9
    project.path("images/copied").write_bytes(b"half")
    assert "its upload was interrupted" in project.plan().out
    project.converge()
    assert project.path("images/copied").read_bytes() == IMAGE
