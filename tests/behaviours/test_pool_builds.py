"""What a pool is on is made where its manifest says so, and nothing that is there is lost unless it says overwrite."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, resource
from trouble import inside, loop_devices, programs

pytestmark = pytest.mark.real

HERE = "/var/lib/libvirt/behaviours"
SIZE = 16 << 20
FREE = {"replace": "allow"}
# LVM sees those of all that run on this machine
GROUP = f"kvmbuilds{os.getpid()}"
Loop = Callable[[], str]


@pytest.fixture
def loop(project: Project) -> Iterator[Loop]:
    """Makes loop devices with nothing on them."""
    numbers = count()
    with loop_devices(project.uri) as loop:

        def make() -> str:
            image = project.host.directory / f"build-{next(numbers)}.img"
            with image.open("wb") as file:
                file.truncate(SIZE)
            return loop(image)

        yield make


def pool(type_: str, device: str, build: str, lifecycle: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "fs": {"source": {"device": device, "format": "ext4"}, "target": {"path": f"{HERE}/{type_}"}},
        "disk": {"source": {"device": device, "format": "gpt"}, "target": {"path": "/dev"}},
        "logical": {"source": {"name": GROUP, "devices": [device]}},
    }[type_]
    return resource("StoragePool", type_, lifecycle, type=type_, build=build, **{"active": False, **spec, **more})


def put(device: str, image: bytes) -> str:
    """Write this to a device; its digest."""
    Path(device).write_bytes(image)
    return digest(device)


def digest(device: str) -> str:
    return hashlib.sha256(Path(device).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What may be on a device: nothing, a file system, a label, a volume group, or what nobody knows."""
    file = tmp_path_factory.mktemp("images") / "image"
    found = {"empty": bytes(SIZE), "unknown": b"precious" * (SIZE // 8)}
    for name, command in {"fs": "mkfs.ext4 -q FILE", "label": "parted --script FILE mklabel gpt"}.items():
        file.write_bytes(bytes(SIZE))
        subprocess.run(command.replace("FILE", str(file)).split(), check=True, capture_output=True)
        found[name] = file.read_bytes()
    # as pvcreate writes it, in the second sector
    found["group"] = bytes(512) + b"LABELONE" + bytes(16) + b"LVM2 001" + b"x" * 4096 + bytes(SIZE - 512 - 32 - 4096)
    return found


def outcome(project: Project, *documents: dict[str, Any]) -> int:
    project.write(*documents)
    return project.apply().code


@pytest.mark.parametrize("type_", ["fs", "disk", "logical"])
def test_nothing_is_lost_unless_it_is_said(project: Project, loop: Loop, images: dict[str, bytes], type_: str) -> None:
    if type_ == "logical" and not shutil.which("vgcreate"):
        pytest.skip("LVM is not here")
    device = loop()
    for name, image in images.items():
        before = put(device, image)
        for build, lifecycle in (("never", {}), ("overwrite", {}), ("ifEmpty", {}), ("overwrite", FREE)):
            project.write(pool(type_, device, build, lifecycle))
            planned = project.plan()
            assert ("formatted" in planned.out) == (build != "never" and (build != "overwrite" or bool(lifecycle)))
            formats = (build == "ifEmpty" and name == "empty") or (build == "overwrite" and lifecycle)
            applied = project.apply()
            assert applied.code == (1 if build == "overwrite" and not lifecycle else 0), applied
            assert (digest(device) != before) == bool(formats), (name, build, lifecycle, applied)
            after = digest(device)
            # a start, and another apply, format nothing
            assert project.apply().code == applied.code
            assert digest(device) == after
            assert outcome(project) == 0
            project.kvmstate("destroy", "--auto-approve")
            assert digest(device) == after
            if type_ == "logical" and formats:
                inside(project.host, f"vgremove -f {GROUP}; pvremove -f {device}")
            put(device, image)


def test_what_was_built_is_used_and_built_once(project: Project, connection: libvirt.virConnect, loop: Loop) -> None:
    device = loop()
    volume = resource("Volume", "one", pool="fs", capacity="1MiB", format="raw")
    project.converge(pool("fs", device, "overwrite", FREE, active=True), volume)
    inside(project.host, f"echo precious >{HERE}/fs/mark; sync {HERE}/fs/mark")
    # somebody undefines it: it comes back with what it holds
    there = connection.storagePoolLookupByName("fs")
    there.destroy()
    there.undefine()
    before = digest(device)
    planned = project.plan()
    assert "built before, and is taken as it is" in planned.out, planned
    assert digest(device) == before
    # its volume is seen when it is mounted
    project.apply()
    project.converge()
    inside(project.host, f"grep -q precious {HERE}/fs/mark")
    # also when its mount point is another one
    moved = pool("fs", device, "overwrite", FREE, active=True, target={"path": f"{HERE}/fs-2"})
    project.write(moved, {**volume, "lifecycle": FREE})
    assert "taken as it is" in project.plan().out
    project.converge()
    inside(project.host, f"grep -q precious {HERE}/fs-2/mark")


def test_a_device_that_is_meant_for_something_else_is_not_formatted(
    project: Project, connection: libvirt.virConnect, loop: Loop
) -> None:
    mine, other = loop(), loop()
    subprocess.run(["mkfs.ext4", "-q", other], check=True, capture_output=True)
    inside(project.host, f"mkdir -p {HERE}/other; ln -sf {other} {HERE}/alias; ln -sf {mine} {HERE}/alias-2")
    # mounted by somebody, under another name of it
    inside(project.host, f"mount -o ro,noload {other} {HERE}/other")
    before = digest(other)
    for build, code in (("overwrite", 1), ("ifEmpty", 0)):
        project.write(pool("disk", f"{HERE}/alias", build, FREE))
        planned = project.plan()
        assert ("in use on the host" if code else "is not empty") in planned.out, planned
        assert project.apply().code == code
        project.kvmstate("destroy", "--auto-approve")
        assert digest(other) == before
    inside(project.host, f"umount {HERE}/other")
    # the source of somebody's pool, and a machine's disk
    source = f"<source><device path='{other}'/></source><target><path>{HERE}/other</path></target>"
    connection.storagePoolDefineXML(f"<pool type='fs'><name>theirs</name>{source}</pool>")
    project.write(pool("logical", f"{HERE}/alias", "overwrite", FREE))
    assert "in use by storage pool theirs" in project.plan().out
    connection.storagePoolLookupByName("theirs").undefine()
    disk = f"<disk type='block' device='disk'><source dev='{other}'/><target dev='vda'/></disk>"
    text = f"<domain type='qemu'><name>web</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>{disk}"
    connection.defineXML(f"{text}</devices></domain>")
    assert "in use by virtual machine web" in project.plan().out
    assert project.apply().code == 1
    assert digest(other) == before
    # twice the same device, under two names
    assert outcome(project, pool("fs", mine, "ifEmpty"), pool("disk", f"{HERE}/alias-2", "ifEmpty")) == 1
    command = ["blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", mine]
    kind = subprocess.run(command, capture_output=True, text=True, check=False)
    assert len(kind.stdout.split()) <= 1, kind.stdout
    project.write(pool("fs", mine, "ifEmpty"), pool("disk", mine, "ifEmpty"))
    assert "is also that of" in project.plan().err
    # what is no device
    inside(project.host, f"echo precious >{HERE}/file")
    project.write(pool("fs", f"{HERE}/file", "overwrite", FREE))
    assert "cannot be told" in project.plan().out


def test_libvirt_refuses_what_it_knows_although_we_see_nothing(project: Project, loop: Loop) -> None:
    """A signature behind the first mebibyte, and before the last one, is libvirt's to find; no data there is lost."""
    device = loop()
    image = bytearray(SIZE)
    # ext4's magic, where btrfs has its own: 64 KiB is within what we look at, so not blank
    image[0x10040:0x10048] = b"_BHRfS_M"
    before = put(device, bytes(image))
    project.write(pool("fs", device, "ifEmpty"))
    assert "is not empty" in project.plan().out
    assert project.apply().code == 0
    assert digest(device) == before


def test_storage_goes_with_its_pool_only_where_that_was_said_and_it_is_empty(project: Project, loop: Loop) -> None:
    device = loop()
    keep, go = {"replace": "allow"}, {"replace": "allow", "storage": "delete"}

    def folder(name: str, lifecycle: dict[str, Any]) -> dict[str, Any]:
        return resource("StoragePool", name, lifecycle, type="dir", target={"path": f"{HERE}/{name}"})

    project.path("").mkdir(parents=True, exist_ok=True)
    project.path("there").mkdir()
    group = [pool("logical", device, "ifEmpty", go, active=True)] if shutil.which("vgcreate") else []
    project.converge(folder("kept", keep), folder("gone", go), folder("there", go), *group)
    (project.path("gone") / "file").write_text("precious")
    project.write()
    prune = ("--prune", "--allow-empty", "--max-delete-share", "100%")
    planned = project.plan(*prune)
    assert planned.out.count("its storage is deleted, if it is empty") == 1 + len(group), planned
    assert "kvmstate has not built it" in planned.out
    assert project.apply(*prune).code == 1
    assert (project.path("gone") / "file").read_text() == "precious"
    (project.path("gone") / "file").unlink()
    assert project.apply(*prune).code == 0
    assert [project.path(name).exists() for name in ("kept", "gone", "there")] == [True, False, True]
    if group:
        left = subprocess.run(["vgs", GROUP], capture_output=True, text=True, check=False)
        assert left.returncode != 0, left


def test_no_other_device_is_formatted_than_was_looked_at(project: Project, loop: Loop) -> None:
    mine, other = loop(), loop()
    subprocess.run(["mkfs.ext4", "-q", other], check=True, capture_output=True)
    before = digest(mine), digest(other)
    for build in ("ifEmpty", "overwrite"):
        said = pool("fs", mine, build, FREE, xml={"./source/device/@path": other})
        assert outcome(project, said) == 1
        assert (digest(mine), digest(other)) == before
        project.kvmstate("destroy", "--auto-approve")
        # by a remainder alone nobody knows what is meant
        rest = (
            f"<pool type='fs'><source><device path='{other}'/></source><target><path>{HERE}/fs</path></target></pool>"
        )
        project.write(resource("StoragePool", "fs", FREE, type="fs", active=False, build=build, remainder=rest))
        assert "needs devices" in project.plan().err
    assert outcome(project) == 0


@pytest.mark.parametrize("active", [False, True])
def test_what_could_not_be_built_is_built_by_the_next_apply(project: Project, loop: Loop, active: bool) -> None:
    device = loop()
    project.write(pool("fs", device, "ifEmpty", active=active))
    with programs(project.host, {"mkfs": "echo 'no room for me' >&2; exit 1"}):
        failed = project.apply()
    assert (failed.code, "no room for me" in failed.out + failed.err) == (1, True), failed
    assert f"{device} is empty, and will be formatted" in project.plan().out
    project.converge()
    kind = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "TYPE", device], capture_output=True, text=True, check=True
    )
    assert kind.stdout.strip() == "ext4"


def test_build_never_makes_no_folder(project: Project) -> None:
    project.write(resource("StoragePool", "images", type="dir", build="never", target={"path": f"{HERE}/images"}))
    assert project.apply().code == 1
    assert not project.path("images").exists()
    project.path("").mkdir(parents=True, exist_ok=True)
    project.path("images").mkdir()
    project.converge()


def test_another_partition_of_the_name_is_not_deleted(
    project: Project, loop: Loop, connection: libvirt.virConnect
) -> None:
    device = loop()
    name = f"{os.path.basename(device)}p1"
    disk = pool("disk", device, "never", active=True)
    data = resource("Volume", name, {"deletion": "delete"}, pool="disk", format="raw", capacity="4MiB")

    def part(*commands: str) -> None:
        """As udev does not run here, its node is made by hand."""
        for command in commands:
            subprocess.run(["parted", "--script", device, *command.split()], check=True, capture_output=True)
        numbers = Path(f"/sys/class/block/{name}/dev").read_text().strip().replace(":", " ")
        inside(project.host, f"rm -f /dev/{name} && mknod /dev/{name} b {numbers}")

    part("mklabel gpt", "mkpart data 2MiB 6MiB")
    project.converge(disk)
    project.write(disk, data)
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    project.converge()
    # somebody gives its number to another one, somewhere else
    part("rm 1", "mkpart other 10MiB 14MiB")
    connection.storagePoolLookupByName("disk").refresh()
    assert "it is not the object that this project made" in project.plan().out
    project.write(disk)
    assert project.apply("--prune").code == 0
    assert name in connection.storagePoolLookupByName("disk").listVolumes()
