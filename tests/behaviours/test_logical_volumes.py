"""Volumes of a volume group, with programs in LVM's place: this kernel may have no device mapper."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, resource, wipe
from trouble import inside, programs

pytestmark = pytest.mark.real

GROUP = """<pool type='logical'><name>vg</name>
<source><device path='/dev/there'/><name>vg0</name><format type='lvm2'/></source><target><path>/dev/vg0</path></target>
</pool>"""
# as LVM does it: whole extents of 4 MiB, and a UUID for each volume
LVCREATE = """
while [ $# -gt 0 ]; do
    case $1 in --name) name=$2;; -L) size=${2%K};; esac; shift
done
mkdir -p /dev/vg0; truncate -s $(( (size + 4095) / 4096 * 4194304 )) /dev/vg0/$name"""
LVS = """
for file in /dev/vg0/*; do
    [ -f $file ] || continue
    size=$(stat -c %s $file)
    echo "  ${file##*/}##E8Y1Ks-dpkC-ej86-4LWA-uBAb-9w32-0P2eUK#/dev/there(0)#linear#1#$size#4194304#$size#-wi-a-----"
done"""
PROGRAMS = {
    "pvs": "echo '  /dev/there vg0'",
    "vgs": "echo '  1073741824:536870912'",
    "vgchange": "exit 0",
    "lvs": LVS,
    "lvcreate": LVCREATE,
    "lvchange": "exit 0",
    "lvremove": "shift; rm -f $1",
}


@pytest.fixture
def ran(project: Project) -> Iterator[Path]:
    with programs(project.host, PROGRAMS) as log:
        yield log
        # stopping takes them, too
        wipe(project.uri)
        inside(project.host, "rm -rf /dev/vg0")


def volume(lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", "data", lifecycle, pool="vg", format="raw", **{"capacity": "10MB", **spec})


def group() -> dict[str, Any]:
    return resource("StoragePool", "vg", type="logical", remainder=GROUP)


def test_one_has_all_of_its_space_and_the_whole_extents_are_no_difference(project: Project, ran: Path) -> None:
    project.converge(group(), volume())
    [made] = [line for line in ran.read_text().splitlines() if line.startswith("lvcreate")]
    # one with less would be a snapshot, which loses everything when it is full
    assert "snapshot" not in made, made
    assert project.plan().code == 0


def test_more_is_refused_until_it_has_grown_or_may_be_replaced(
    project: Project, connection: libvirt.virConnect, ran: Path
) -> None:
    project.converge(group(), volume())
    project.write(group(), volume(capacity="16MiB"))
    planned = project.plan()
    assert "libvirt cannot grow a volume in a pool of type logical" in planned.out, planned
    assert project.apply().code == 1
    assert "lvremove" not in ran.read_text()
    inside(project.host, "truncate -s 16M /dev/vg0/data")
    connection.storagePoolLookupByName("vg").refresh()
    project.converge()
    project.converge(group(), volume({"replace": "allow"}, capacity="20MiB"))
    assert "lvremove" in ran.read_text()


def test_an_image_is_written_into_one(project: Project, ran: Path) -> None:
    image = project.folder / "image.raw"
    image.write_bytes(bytes(range(256)) * 4096)
    project.converge(group(), volume(content={"file": "image.raw"}))
    made = project.host.directory / "made"
    inside(project.host, f"cp /dev/vg0/data {made}")
    assert made.read_bytes() == image.read_bytes() + bytes((12 << 20) - (1 << 20))


def test_a_format_that_there_is_none_of_is_refused_with_its_place(project: Project) -> None:
    project.write(group(), resource("Volume", "data", pool="vg", capacity="10MB"))
    validated = project.kvmstate("validate")
    assert validated.code == 1
    assert "spec.format: a pool of type logical has no qcow2 volumes" in validated.err, validated


def test_what_is_compressed_needs_a_capacity_before_anything_is_made(project: Project, ran: Path) -> None:
    (project.folder / "image.gz").write_bytes(gzip.compress(bytes(4 << 20)))
    content = {"file": str(project.folder / "image.gz")}
    project.write(group(), resource("Volume", "data", pool="vg", format="raw", content=content))
    applied = project.apply()
    assert applied.code == 1
    assert "is compressed: nobody knows what it needs" in applied.out
    assert "hint: write capacity" in applied.out
    assert "lvcreate" not in ran.read_text()
