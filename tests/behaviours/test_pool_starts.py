"""A start builds nothing but a folder that is missing: no volume group, no label, no file system, no other mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, resource, wipe
from trouble import programs

pytestmark = pytest.mark.real

GROUP = """<pool type='logical'><name>vg</name>
<source><device path='/dev/there'/><name>vg0</name><format type='lvm2'/></source><target><path>/dev/vg0</path></target>
</pool>"""
DISK = """<pool type='disk'><name>hdd</name>
<source><device path='/dev/there'/><format type='gpt'/></source><target><path>/dev</path></target></pool>"""
# what there is of a volume group vg0 on one device, and a disk whose content nobody recognises
PROGRAMS = {
    "pvs": "echo '  /dev/there vg0'",
    "vgs": "echo '  1073741824:536870912'",
    "lvs": "exit 0",
    "vgchange": "exit 0",
    "vgcreate": "echo 'A volume group called vg0 already exists.' >&2; exit 5",
    "pvcreate": "exit 0",
    "parted": "echo 'Error: /dev/there: unrecognised disk label' >&2; exit 1",
}


@pytest.fixture
def ran(project: Project) -> Iterator[Path]:
    with programs(project.host, PROGRAMS) as log:
        yield log
        # stopping takes them, too
        wipe(project.uri)


def taken(project: Project, connection: libvirt.virConnect, xml: str) -> str:
    """A pool that somebody defined, to be started by the project; its name."""
    name = connection.storagePoolDefineXML(xml).name()
    kind = "logical" if "logical" in xml else "disk"
    project.write(resource("StoragePool", name, type=kind, remainder=xml))
    adopted = project.kvmstate("adopt", "--auto-approve")
    assert adopted.code == 0, adopted
    return name


def test_an_existing_volume_group_is_started_and_not_made(
    project: Project, connection: libvirt.virConnect, ran: Path
) -> None:
    name = taken(project, connection, GROUP)
    applied = project.apply()
    assert applied.code == 0, applied
    assert connection.storagePoolLookupByName(name).isActive()
    assert [line.split()[0] for line in ran.read_text().splitlines() if "create" in line] == []


def test_a_disk_that_nobody_recognises_gets_no_label(
    project: Project, connection: libvirt.virConnect, ran: Path
) -> None:
    taken(project, connection, DISK)
    applied = project.apply()
    assert applied.code == 1, applied
    assert "mklabel" not in ran.read_text()


def folder_pool(active: bool = True, **target: Any) -> dict[str, Any]:
    path = "/var/lib/libvirt/behaviours/images"
    return resource("StoragePool", "images", type="dir", active=active, target={"path": path, **target})


def mode(project: Project, name: str = "images") -> str:
    return oct(project.path(name).stat().st_mode)[-4:]


def test_a_start_makes_a_folder_that_is_missing_and_leaves_one_that_is_there(project: Project) -> None:
    project.converge(folder_pool())
    project.converge(folder_pool(active=False))
    project.path("images").chmod(0o750)
    project.converge(folder_pool())
    assert mode(project) == "0750"
    project.converge(folder_pool(active=False))
    project.path("images").rmdir()
    project.converge(folder_pool())
    assert project.path("images").is_dir()


def test_the_mode_that_a_manifest_asks_for_is_set_at_the_start(project: Project) -> None:
    asked = {"permissions": {"mode": "0711"}}
    project.converge(folder_pool(**asked))
    assert mode(project) == "0711"
    project.converge(folder_pool(active=False, **asked))
    project.path("images").chmod(0o750)
    project.converge(folder_pool(**asked))
    assert mode(project) == "0711"
    project.converge(folder_pool(active=False, **asked))
    project.path("images").rmdir()
    project.converge(folder_pool(**asked))
    assert mode(project) == "0711"


# as mount runs it, with the server's folder and the mount point
NFS = """
[ -d "$2" ] || { echo "mount.nfs: mount point $2 does not exist" >&2; exit 32; }
exec mount -i -t tmpfs "$1" "$2\""""


def test_a_mount_point_that_is_missing_is_made_whatever_mount_calls_that(project: Project) -> None:
    there = "/var/lib/libvirt/behaviours/shared"
    source = "<host name='127.0.0.1'/><dir path='/srv/shared'/><format type='nfs'/>"
    xml = f"<pool type='netfs'><source>{source}</source><target><path>{there}</path></target></pool>"
    shared = resource("StoragePool", "shared", type="netfs", remainder=xml)
    with programs(project.host, {"mount.nfs": NFS}) as log:
        project.converge(shared, resource("Volume", "one", pool="shared", capacity="1MiB"))
        # what fails for another reason is not built
        project.converge(resource("StoragePool", "shared", type="netfs", active=False, remainder=xml))
        project.path("shared").chmod(0o750)
        (log.parent / "programs" / "mount.nfs").write_text("#!/bin/sh\necho denied >&2; exit 32\n")
        project.write(shared)
        assert project.apply().code == 1
        assert mode(project, "shared") == "0750"
        wipe(project.uri)


@pytest.mark.parametrize(
    ("edit", "said", "code"),
    [(None, "it stays as it is", 0), ({"format": "qcow2"}, "known after the pool is started", 1)],
    ids=["taken out", "another format"],
)
def test_what_the_plan_could_not_show_is_not_lost(
    project: Project, connection: libvirt.virConnect, edit: dict[str, str] | None, said: str, code: int
) -> None:
    lifecycle = {"deletion": "delete", "replace": "allow"}
    images = resource("StoragePool", "images", type="dir", target={"path": "/var/lib/libvirt/late"})
    spec = {"pool": "images", "format": "raw", "capacity": "1MiB"}
    project.converge(images, resource("Volume", "data", lifecycle, **spec))
    pool = connection.storagePoolLookupByName("images")
    before = pool.storageVolLookupByName("data").XMLDesc()
    pool.destroy()
    project.write(images, *([resource("Volume", "data", lifecycle, **{**spec, **edit})] if edit else []))

    shown = project.kvmstate("plan", "--prune")
    assert said in shown.out
    applied = project.kvmstate("apply", "--prune", "--auto-approve")
    assert applied.code == code, applied
    assert pool.isActive()
    assert pool.storageVolLookupByName("data").XMLDesc() == before
    # the next one shows it, and does it
    shown = project.kvmstate("plan", "--prune")
    assert ("will be replaced" if edit else "its data is deleted") in shown.out
    assert project.kvmstate("apply", "--prune", "--auto-approve").code == 0
    assert [volume.name() for volume in pool.listAllVolumes()] == (["data"] if edit else [])
