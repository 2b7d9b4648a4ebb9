"""What people set by path (`spec.xml`) works from the start, and what libvirt does not know is told by its path."""

from __future__ import annotations

from contextlib import nullcontext

import libvirt
import pytest
from harness import Project, idle

from kvmstate.xmlbind import document
from kvmstate.xmlbind.path import parse_path

pytestmark = pytest.mark.real

RANDOM = {
    "./devices/video/model/@type": "virtio",
    # the schema has acceleration before resolution
    "./devices/video/model/resolution/@x": 800,
    "./devices/video/model/resolution/@y": 600,
    "./devices/video/model/acceleration/@accel3d": "no",
}


@pytest.mark.parametrize(
    "paths",
    [
        {"./cputune/shares": 512},
        {"./memtune/hard_limit": 1048576},
        {"./numatune/memory/@mode": "strict", "./numatune/memory/@nodeset": 0},
        {"./memoryBacking/source/@type": "memfd", "./iothreads": 2},
        {"./blkiotune/weight": 500, "./genid": "43dc0cf8-809b-4adb-9bea-a9abb5f3d90e"},
        {"./on_crash": "restart", "./cputune/shares": 5, "./title": "after the devices"},
        RANDOM,
    ],
    ids=lambda paths: next(iter(paths)),
)
def test_a_new_machine_may_have_paths_wherever_libvirts_schema_wants_them(
    project: Project, connection: libvirt.virConnect, paths: dict[str, object]
) -> None:
    project.converge(idle("web", state="stopped", maxMemory="64MiB", xml=paths))
    made = document(connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert {path: parse_path(path).text(made) for path in paths} == {path: str(value) for path, value in paths.items()}


def test_a_path_that_libvirts_schema_does_not_allow_is_named(project: Project, connection: libvirt.virConnect) -> None:
    good = {"./cputune/shares": 512}
    for path, value in (
        ("./memtune/hart_limit", 5),
        ("./features/kvm/hidden/@state", "maybe"),
        ("./nonsense", "x"),
        ("./clock/@offzet", "utc"),
        ("./devices/memballoon/@modell", "none"),
    ):
        for when in (False, True):
            if when:
                project.converge(idle("web", state="stopped", xml=good))
            project.write(idle("web", state="stopped", xml={**good, path: value}))
            applied = project.apply()
            assert applied.code == 1, applied
            assert f"error: domain/web: spec.xml {path}: libvirt's schema does not allow it" in applied.out
            assert "./cputune/shares" not in applied.out.partition("error: ")[2]
        project.converge(idle("web", state="stopped", xml=good))
        connection.lookupByName("web").undefine()


def test_xml_of_others_that_does_not_fit_the_schema_stands_in_no_paths_way(
    project: Project, connection: libvirt.virConnect
) -> None:
    # libvirt takes and shows it, and its schema does not have it
    disk = (
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd'>"
        "<host transport='unix' socket='/tmp/nbd.sock'/><reconnect delay='10'/></source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    project.converge(idle("web", state="stopped"))
    xml = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    foreign = xml.replace("<devices>", f"<devices>{disk}")
    connection.defineXML(foreign)
    # newer schemas allow it
    fits = connection.getLibVersion() >= 11_000_000
    with nullcontext() if fits else pytest.raises(libvirt.libvirtError, match="failed to validate"):
        connection.defineXMLFlags(foreign, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    project.converge(idle("web", state="stopped", xml={"./cputune/shares": 512}))
    assert "<shares>512</shares>" in connection.lookupByName("web").XMLDesc()
    # what it does not know is told all the same
    project.write(idle("web", state="stopped", xml={"./cputune/shares": 512, "./nonsense": "x"}))
    applied = project.apply()
    assert applied.code == 1
    assert "spec.xml ./nonsense: libvirt's schema does not allow it" in applied.out
