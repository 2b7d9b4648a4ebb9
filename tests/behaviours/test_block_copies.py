"""A machine whose disk somebody has copied to another image, and moved there, is not put back onto the old one."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource, until

from kvmstate import sandbox
from kvmstate.xmlbind import document

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours"
DATA = resource("Volume", "data", pool="images", capacity="1MiB")
OTHER = resource("Volume", "other", pool="images", capacity="1MiB")


def web(says: str = "whenOff", image: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    disk = {"name": "root", **(image or {"volume": "images/data"})}
    return idle("web", {"restart": says}, disks=[disk], **spec)


def pivot(project: Project, connection: libvirt.virConnect, path: str) -> None:
    """As `virsh blockcopy web vda --dest PATH --pivot`."""
    sandbox.execute(project.host, ["sh", "-ec", f"mkdir -p {FOLDER}/elsewhere"])
    machine = connection.lookupByName("web")
    target = document(machine.XMLDesc(0)).find("devices/disk/target").get("dev")
    text = f"<disk type='file'><source file='{path}'/><driver type='qcow2'/></disk>"
    machine.blockCopy(target, text, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)

    def ready() -> bool:
        return "ready='yes'" in machine.XMLDesc(0)

    until(ready, "the copy is ready")
    machine.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    until(lambda: not machine.blockJobInfo(target, 0), "the machine has moved to it")
    connection.storagePoolLookupByName("images").refresh()


def defined(connection: libvirt.virConnect) -> str:
    text = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return str(document(text).find("devices/disk/source").get("file"))


KEEPS = {
    "images/copy": {"volume": "images/copy"},
    "elsewhere/copy": {"file": f"{FOLDER}/elsewhere/copy", "format": "qcow2"},
}


@pytest.mark.parametrize("place", KEEPS)
@pytest.mark.parametrize("says", ["whenOff", "now"])
def test_a_machine_stays_on_the_copy_that_it_writes_to(
    project: Project, connection: libvirt.virConnect, says: str, place: str
) -> None:
    project.converge(pool(), DATA, web(says))
    copy = f"{FOLDER}/{place}"
    pivot(project, connection, copy)
    run = connection.lookupByName("web").ID()
    assert defined(connection) == copy
    for _ in range(2):
        applied = project.apply()
        assert applied.code == 1
        assert f"blocked: its disk root is {copy} by now, by somebody's hand: back on volume images/data" in applied.out
        assert "would stay behind in that file" in applied.out
        said, image = next(iter(KEEPS[place].items()))
        assert f"hint: to keep it, write `{said}: {image}` into the manifest" in applied.out
    assert (defined(connection), connection.lookupByName("web").ID()) == (copy, run)
    told = kvmstate("drift", str(project.folder))
    assert "disks[root].volume" in told.out
    project.converge(pool(), DATA, web(says, KEEPS[place]))
    assert (defined(connection), connection.lookupByName("web").ID()) == (copy, run)


def test_the_copy_may_be_declared_as_a_volume(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA, web())
    pivot(project, connection, f"{FOLDER}/images/copy")
    copied = resource("Volume", "copy", pool="images", capacity="1MiB")
    machine = idle("web", disks=[{"name": "root", "volume": "images/copy"}])
    project.write(pool(), DATA, copied, machine)
    assert kvmstate("adopt", "volume/images/copy", str(project.folder), "--auto-approve").code == 0
    project.converge()
    assert defined(connection) == f"{FOLDER}/images/copy"


def test_who_edits_the_manifest_means_it(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA, OTHER, web(state="stopped"))
    by_hand = connection.lookupByName("web").XMLDesc(0).replace("/images/data", "/images/other")
    connection.defineXML(by_hand)
    assert project.apply().code == 1
    project.write(pool(), DATA, OTHER, idle("web", state="stopped", disks=[{"name": "root", "volume": "images/other"}]))
    project.converge()
    project.converge(pool(), DATA, OTHER, web(state="stopped"))
    assert defined(connection) == f"{FOLDER}/images/data"


def test_a_disk_whose_file_is_not_there_is_put_back(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA, web(state="stopped"))
    connection.defineXML(connection.lookupByName("web").XMLDesc(0).replace("/images/data", "/images/nothing"))
    project.converge()
    assert defined(connection) == f"{FOLDER}/images/data"


def test_what_waits_for_a_restart_is_no_doing_of_others(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA, OTHER, web())
    other = idle("web", {"restart": "whenOff"}, disks=[{"name": "root", "volume": "images/other"}])
    project.converge(pool(), DATA, OTHER, other)
    other["lifecycle"]["restart"] = "now"
    project.converge(pool(), DATA, OTHER, other)
    running = document(connection.lookupByName("web").XMLDesc(0))
    assert running.find("devices/disk/source").get("file") == f"{FOLDER}/images/other"
