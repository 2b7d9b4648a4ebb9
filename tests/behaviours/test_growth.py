"""Volumes grow, whether a machine runs or not; they never shrink."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import libvirt
import pytest
from harness import Guest, Project, idle, pool, resource

pytestmark = pytest.mark.real


def volume(name: str, capacity: str, format: str) -> dict:
    return resource("Volume", name, pool="images", format=format, capacity=capacity)


def test_volumes_grow_while_their_machine_is_off_and_under_its_running_guest(project: Project, tiny: Guest) -> None:
    disks = [{"name": format, "volume": f"images/{format}"} for format in ("raw", "qcow2")]

    def sized(raw: str, qcow2: str, state: str) -> list[dict]:
        machine = tiny.machine("web", state=state, disks=disks)
        return [pool(), volume("raw", raw, "raw"), volume("qcow2", qcow2, "qcow2"), machine]

    project.converge(*sized("4MiB", "4MiB", "stopped"))
    project.converge(*sized("6MiB", "8MiB", "stopped"))
    project.converge(*sized("6MiB", "8MiB", "running"))
    tiny.says("vda:6MiB,vdb:8MiB")
    boot = tiny.boot()
    project.converge(*sized("10MiB", "12MiB", "running"))
    tiny.says("vda:10MiB,vdb:12MiB")
    assert tiny.boot() == boot


@pytest.mark.parametrize("pool_name", ["images", "theirs"])
def test_what_a_running_machine_has_a_layer_over_does_not_grow(
    pool_name: str, project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    """Its QEMU has it open, and lets nobody resize it: the plan says so, and who."""
    layer = resource("Volume", "layer", pool=pool_name, backing="images/base")
    web = idle("web", disks=[{"name": "root", "volume": f"{pool_name}/layer"}])
    others = [layer, web, *([] if pool_name == "images" else [pool(pool_name)])]
    if pool_name == "images":
        project.converge(pool(), volume("base", "4MiB", "raw"), *others)
    else:
        project.converge(pool(), volume("base", "4MiB", "raw"))
        Project(project.host, tmp_path / "other", "other").converge(*others)
        others = []
    project.write(pool(), volume("base", "8MiB", "raw"), *others)
    why = f"virtual machine web runs on volume {pool_name}/layer, a layer over it"
    assert f"blocked: {why}" in project.plan().out
    applied = project.apply()
    assert applied.code == 1
    assert why in applied.out
    connection.lookupByName("web").destroy()
    applied = project.apply()
    assert applied.code == 0, applied
    assert project.path("images/base").stat().st_size == 8 << 20


def test_a_volume_grows_below_its_running_machine_by_whatever_path(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume("data", "4MiB", "raw"))
    project.path("alias").symlink_to("images")
    text = (
        "<domain type='qemu'><name>foreign</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
        "<disk type='file'><driver name='qemu' type='raw'/><source file='/var/lib/libvirt/behaviours/alias/data'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    foreign = connection.defineXML(text)
    foreign.create()
    project.converge(pool(), volume("data", "8MiB", "raw"))
    assert foreign.blockInfo("vda")[0] == 8 << 20


def test_shrinking_is_refused_and_the_rest_goes_on(project: Project) -> None:
    project.converge(pool(), volume("data", "8MiB", "qcow2"))
    project.write(pool(), volume("data", "4MiB", "qcow2"), volume("other", "4MiB", "qcow2"))
    applied = project.apply()
    assert applied.code == 1
    assert "volume/images/data" in applied.out
    assert "blocked: capacity cannot shrink: data would be lost" in applied.out
    assert project.path("images/other").exists()
    project.converge(pool(), volume("data", "8MiB", "qcow2"), volume("other", "4MiB", "qcow2"))


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_what_takes_more_than_its_new_capacity_is_told_before(project: Project, format: str) -> None:
    """An image with tables beside its data, and a file that takes whole blocks: libvirt refuses that."""
    plain, image = project.folder / "plain", project.folder / "image"
    plain.write_bytes(os.urandom(65536 if format == "qcow2" else 5000))
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", format, plain, image], check=True)

    def filled(**spec: object) -> list[dict]:
        return [pool(), resource("Volume", "v", pool="images", format=format, content={"file": "image"}, **spec)]

    little, enough = ("128KiB", "1MiB") if format == "qcow2" else ("6000B", "8KiB")
    told = "libvirt makes no volume smaller than what it takes of its pool"
    project.write(*filled(capacity=little))
    assert told in project.plan().out
    project.converge(*filled())
    project.write(*filled(capacity=little))
    assert told in project.plan().out
    project.converge(*filled(capacity=enough))
    # holes are not copied
    image.write_bytes(b"")
    subprocess.run(["qemu-img", "create", "-q", "-f", format, image, "1M"], check=True)
    os.truncate(image, 2 << 20)
    project.converge(pool())
    project.converge(*filled(capacity="1537KiB" if format == "qcow2" else "3MiB"))
