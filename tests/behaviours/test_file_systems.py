"""A pool of type fs: a file system on a block device. It is mounted, and never made."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from harness import Project, kvmstate, resource
from trouble import inside, loop_devices

pytestmark = pytest.mark.real

MOUNTED_AT = "/var/lib/libvirt/behaviours/data"
Device = Callable[[str], str]


@pytest.fixture
def device(project: Project) -> Iterator[Device]:
    """A loop device with a file system that this program makes, or with nothing on it that anybody knows."""
    numbers = count()
    with loop_devices(project.uri) as loop:

        def make(mkfs: str) -> str:
            image = project.host.directory / f"device-{next(numbers)}.img"
            image.write_bytes(b"precious" * (16 << 17))
            if mkfs:
                subprocess.run([*mkfs.split(), str(image)], check=True, capture_output=True)
            return loop(image)

        yield make


def pool(device: str, **more: Any) -> dict[str, Any]:
    source = {"device": device} | {name: more.pop(name) for name in ("format",) if name in more}
    return resource("StoragePool", "data", type="fs", source=source, target={"path": MOUNTED_AT}, **more)


def volume(**spec: Any) -> dict[str, Any]:
    return resource("Volume", "disk", pool="data", **{"capacity": "4MiB", **spec})


def mounted(project: Project) -> bool:
    mounts = Path(f"/proc/{project.host.pid}/mounts").read_text(encoding="utf-8")
    return any(line.split()[1] == MOUNTED_AT for line in mounts.splitlines())


def digest(device: str) -> str:
    return hashlib.sha256(Path(device).read_bytes()).hexdigest()


def test_it_is_mounted_with_its_pool_and_holds_volumes(project: Project, device: Device) -> None:
    there = device("mkfs.ext4 -q")
    project.converge(pool(there, format="ext4"), volume())
    assert mounted(project)
    project.converge(pool(there, format="ext4"), volume(capacity="8MiB"))
    project.converge(pool(there, format="ext4", active=False))
    assert not mounted(project)
    # it is in the file system, and not in the folder below
    inside(project.host, f'[ -z "$(ls -A {MOUNTED_AT})" ] && mount {there} /mnt && test -f /mnt/disk && umount /mnt')
    project.converge(pool(there, format="ext4"), volume(capacity="8MiB"))


def test_a_device_without_a_file_system_gets_none(project: Project, device: Device) -> None:
    there = device("")
    before = digest(there)
    project.write(pool(there, format="ext4"))
    for _ in range(2):
        assert project.apply().code == 1
    assert digest(there) == before


def test_one_of_another_format_is_left_as_it_is(project: Project, device: Device) -> None:
    there = device("mkfs.ext4 -q")
    before = digest(there)
    project.write(pool(there, format="xfs"))
    assert project.apply().code == 1
    assert digest(there) == before
    # what was defined for it is put right by the next apply
    project.converge(pool(there, format="ext4"))


def test_one_that_exists_is_imported_with_its_fields(
    project: Project, connection: libvirt.virConnect, device: Device, tmp_path: Path
) -> None:
    there = device("mkfs.ext4 -q")
    inside(project.host, f"mkdir -p {MOUNTED_AT}")
    target = f"<target><path>{MOUNTED_AT}</path></target>"
    xml = f"<pool type='fs'><name>data</name><source><device path='{there}'/></source>{target}</pool>"
    made = connection.storagePoolDefineXML(xml)
    made.create()
    made.createXML("<volume><name>disk</name><capacity>4096</capacity></volume>")
    folder = tmp_path / "imported"
    imported = kvmstate("import", "--all", "-c", project.uri, "-o", str(folder))
    assert imported.code == 0, imported
    # and not lost+found, which is the file system's
    assert [path.name for path in (folder / "volumes" / "data").iterdir()] == ["disk.yaml"]
    spec = yaml.safe_load((folder / "pools" / "data.yaml").read_text(encoding="utf-8"))["spec"]
    said = {name: spec[name] for name in ("type", "source", "target")}
    assert said == {"type": "fs", "source": {"device": there, "format": "auto"}, "target": {"path": MOUNTED_AT}}
    planned = kvmstate("plan", str(folder), "--detailed-exitcode")
    assert planned.code == 0, planned


def test_an_older_manifest_that_has_all_in_its_remainder_goes_on(project: Project, device: Device) -> None:
    there = device("mkfs.ext4 -q")
    target = f"<target><path>{MOUNTED_AT}</path></target>"
    xml = f"<pool type='fs'><source><device path='{there}'/><format type='ext4'/></source>{target}</pool>"
    project.converge(resource("StoragePool", "data", type="fs", remainder=xml), volume())
    project.write(pool(there, format="ext4"), volume())
    assert project.plan().code == 0
