"""What lies beyond the new end of a volume is lost only where that was said and nobody has it open; and a volume is
wiped before it is deleted where that was said."""

from __future__ import annotations

import shutil
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real

DATA = b"data" * 1024


def volume(name: str = "data", lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, lifecycle, **{"pool": "images", "capacity": "8MiB", "format": "raw", **spec})


def machine(state: str = "stopped", disk: str = "data", **spec: Any) -> dict[str, Any]:
    return idle("web", state=state, disks=[{"name": "data", "volume": f"images/{disk}"}], **spec)


def refused(project: Project, why: str, *documents: dict[str, Any]) -> None:
    project.write(pool(), *documents)
    planned = project.plan()
    assert f"blocked: {why}" in planned.out, planned
    assert project.apply().code == 1


def test_a_volume_shrinks_where_that_is_said_and_nobody_runs_on_it(
    project: Project, connection: libvirt.virConnect
) -> None:
    images = project.path("images")
    project.converge(pool(), volume(), volume("image.qcow2", format="qcow2"), machine())
    with (images / "data").open("r+b") as file:
        file.write(DATA)
    others = (volume("image.qcow2", format="qcow2"),)
    less: dict[str, Any] = {"capacity": "4MiB"}
    refused(project, "capacity cannot shrink: data would be lost", volume(**less), *others, machine())
    assert "or say allowShrink: true" in project.plan().out
    said = less | {"allowShrink": True}
    kept = volume("data", {"preventDestroy": True}, **said)
    refused(project, "preventDestroy keeps what lies beyond its new end", kept, *others, machine())
    project.converge(pool(), volume(), *others, machine("running"))
    running = (volume(**said), *others, machine("running"))
    refused(project, "it cannot shrink: in use by virtual machine web", *running)
    connection.lookupByName("web").managedSave()
    refused(
        project, "it cannot shrink: in use by the saved memory of virtual machine web", *running[:-1], machine("ignore")
    )
    connection.lookupByName("web").managedSaveRemove()
    # who starts it after the plan was made keeps its end
    project.write(pool(), volume(**said), *others, machine("ignore"))
    file = str(project.folder / "saved")
    planned = project.plan("--out", file)
    assert "what lies beyond 4 MiB is lost" in planned.out, planned
    connection.lookupByName("web").create()
    assert kvmstate("apply", file, "--auto-approve").code == 1
    assert (images / "data").stat().st_size == 8 << 20
    connection.lookupByName("web").destroy()
    small = volume("image.qcow2", format="qcow2", **said)
    project.converge(pool(), volume(**said), small, machine())
    assert (images / "data").stat().st_size == 4 << 20
    assert (images / "data").read_bytes()[: len(DATA)] == DATA
    assert connection.storagePoolLookupByName("images").storageVolLookupByName("image.qcow2").info()[1] == 4 << 20
    # and grows again; what is allocated is not cut off, nor what a layer or a snapshot lies on
    project.converge(pool(), volume(allowShrink=True), small, machine())
    (images / "data").write_bytes(DATA * 2048)
    less_still = volume(capacity="1MiB", allowShrink=True)
    refused(project, "libvirt shrinks no volume below what it takes of its pool", less_still, small, machine())
    layer = resource("Volume", "layer", pool="images", backing="images/image.qcow2")
    project.converge(pool(), volume(), small, layer, machine())
    least = volume("image.qcow2", format="qcow2", capacity="1MiB", allowShrink=True)
    refused(project, "it cannot shrink: in use by volume images/layer", volume(), least, layer, machine())
    connection.storagePoolLookupByName("images").storageVolLookupByName("layer").delete()
    project.converge(pool(), volume(), small, machine(disk="image.qcow2"), options=("--prune",))
    assert kvmstate("snapshot", "create", "web", "--name", "one", "-c", project.uri).code == 0
    refused(project, "it cannot shrink: in use by ", volume(), least, machine(disk="image.qcow2"))


def test_a_volume_is_wiped_before_it_is_deleted_where_that_is_said(
    project: Project, connection: libvirt.virConnect
) -> None:
    images, links = project.path("images"), project.path("links")
    wiped = {"deletion": "delete", "wipe": "zero", "replace": "allow"}
    project.converge(
        pool(),
        volume("whole", wiped, allocation="8MiB"),
        volume("image", wiped, format="qcow2"),
        volume("plain", {"deletion": "delete"}),
        volume("scrubbed", wiped | {"wipe": "nnsa"}),
        volume("again", wiped),
    )
    links.mkdir()
    names = ("whole", "image", "plain", "scrubbed", "again")
    for name in names:
        with (images / name).open("r+b") as file:
            file.seek(1 << 20)
            file.write(DATA)
        (links / name).hardlink_to(images / name)
    connection.storagePoolLookupByName("images").refresh()
    # replaced: what was there is overwritten, the new one is another file
    project.converge(pool(), *(volume(n, wiped, **({"format": "qcow2"} if n == "again" else {})) for n in ("again",)))
    assert DATA not in (links / "again").read_bytes()
    assert (links / "again").stat().st_ino != (images / "again").stat().st_ino
    prune = ("--prune", "--max-delete-share", "100%")
    planned = project.plan(*prune)
    assert "its data is wiped (zero) and deleted" in planned.out, planned
    gone = project.apply(*prune)
    # where there is no scrub it is neither wiped nor deleted
    left = set() if shutil.which("scrub") else {"scrubbed"}
    assert (gone.code, "failed" in gone.err) == (len(left), bool(left)), gone
    assert {name for name in names if (images / name).exists()} == {"again", *left}
    assert {name for name in names if DATA in (links / name).read_bytes()} == {"plain", *left}
    assert (links / "whole").stat().st_size == 8 << 20
