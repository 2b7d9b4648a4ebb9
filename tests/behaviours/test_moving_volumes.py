"""An edited pool of a volume copies it there, with the machines on it: running, off, and cut off at any moment."""

from __future__ import annotations

import os
import re
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource
from test_renames import moved
from trouble import small_disk

from kvmstate.xmlbind import document

pytestmark = pytest.mark.real

DATA = b"data" * 1024
POOLS = (pool("images"), pool("fast"))


def web(
    at: str = "images",
    state: str = "running",
    lifecycle: dict[str, Any] | None = None,
    restart: str = "never",
    **spec: Any,
) -> Any:
    data = {"pool": at, "capacity": "8MiB", "format": "raw", **({"lifecycle": lifecycle} if lifecycle else {})}
    disks = [{"name": "data", "create": data}]
    return idle("web", {"restart": restart}, state=state, disks=disks, **spec)


def fill(project: Project, at: str = "images", data: bytes = DATA) -> None:
    with project.path(f"{at}/web-data").open("r+b") as file:
        file.seek(1 << 20)
        file.write(data)


def held(project: Project, at: str, size: int = len(DATA)) -> bytes:
    with project.path(f"{at}/web-data").open("rb") as file:
        file.seek(1 << 20)
        return file.read(size)


def on(connection: libvirt.virConnect, flags: int = 0) -> str:
    """The file of the machine's disk."""
    text = connection.lookupByName("web").XMLDesc(flags)
    return str(document(text).find("devices/disk/source").get("file")).removeprefix("/var/lib/libvirt/behaviours/")


def both(connection: libvirt.virConnect) -> tuple[str, str]:
    return on(connection), on(connection, libvirt.VIR_DOMAIN_XML_INACTIVE)


def test_a_volume_moves_with_the_machine_that_runs_on_it_and_back(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(*POOLS, web())
    fill(project)
    run = connection.lookupByName("web").ID()
    project.write(*POOLS, web("fast"))
    planned = project.plan()
    assert "volume/fast/web-data" in planned.out
    assert "it was volume/images/web-data: its data is copied" in planned.out
    assert "blocked" not in planned.out, planned
    project.converge()
    assert both(connection) == ("fast/web-data", "fast/web-data")
    assert connection.lookupByName("web").ID() == run
    assert held(project, "fast") == held(project, "images") == DATA
    # back: what is there is older by now, and is not taken for the same
    fill(project, "fast", b"newer" * 100)
    for restart in ("never", "whenOff"):
        project.write(*POOLS, web("images", restart=restart))
        refused = project.plan()
        assert "blocked: it has moved to volume/fast/web-data, and what it holds here is older" in refused.out, refused
        assert project.apply().code == 1
        assert both(connection) == ("fast/web-data", "fast/web-data")
    connection.storagePoolLookupByName("images").storageVolLookupByName("web-data").delete()
    project.converge(*POOLS, web("images"))
    assert both(connection) == ("images/web-data", "images/web-data")
    assert held(project, "images", 500) == b"newer" * 100
    # and what was left behind goes where its lifecycle says so; a machine that may restart does not either
    connection.storagePoolLookupByName("fast").storageVolLookupByName("web-data").delete()
    goes: dict[str, Any] = {"lifecycle": {"deletion": "delete"}, "restart": "now"}
    project.converge(*POOLS, web("images", **goes))
    project.converge(*POOLS, web("fast", title="moved", **goes), options=("--prune",))
    assert both(connection) == ("fast/web-data", "fast/web-data")
    assert not project.path("images/web-data").exists()
    assert held(project, "fast", 500) == b"newer" * 100
    assert connection.lookupByName("web").ID() == run


def test_a_volume_moves_while_its_machine_is_off(project: Project, connection: libvirt.virConnect) -> None:
    alone = resource("Volume", "alone.qcow2", pool="images", capacity="8MiB")
    project.converge(*POOLS, web(state="stopped"), alone)
    fill(project)
    alone["spec"]["pool"] = "fast"
    project.converge(*POOLS, web("fast", state="stopped"), alone)
    assert on(connection) == "fast/web-data"
    assert held(project, "fast") == held(project, "images") == DATA
    assert project.path("fast/alone.qcow2").exists()
    # not while somebody else has it as well
    text = connection.lookupByName("web").XMLDesc()
    for tag in ("uuid", "metadata"):
        text = re.sub(f"<{tag}.*?</{tag}>", "", text, flags=re.DOTALL)
    connection.defineXML(text.replace("<name>web<", "<name>other<"))
    project.write(*POOLS, web("images", state="stopped"), alone)
    connection.storagePoolLookupByName("images").storageVolLookupByName("web-data").delete()
    said = project.plan().out
    assert "blocked: virtual machine other is on volume/fast/web-data, and does not move with it" in said, said
    # what is blocked keeps its source known: the next plan does not take the new one for an empty one
    assert project.apply("--prune").code == 1
    assert "does not move with it" in project.plan("--prune").out
    connection.lookupByName("other").undefine()
    moved(project, ("domain/web", "domain/shop"))
    shop = web("images", state="stopped")
    shop["metadata"]["name"], shop["spec"]["disks"][0]["create"]["name"] = "shop", "web-data"
    project.write(*POOLS, shop, alone)
    assert "becomes domain/shop with the same plan: rename it first" in project.plan("--prune").out
    assert project.apply("--prune").code == 1
    shop["spec"]["disks"][0]["create"]["pool"] = "fast"
    project.converge(*POOLS, shop, alone)
    shop["spec"]["disks"][0]["create"]["pool"] = "images"
    project.converge(*POOLS, shop, alone, options=("--prune",))
    assert held(project, "images") == DATA


def test_what_keeps_a_volume_where_it_is_is_said_in_the_plan(project: Project, connection: libvirt.virConnect) -> None:
    def machine(at: str) -> Any:
        return idle("web", state="running", disks=[{"name": "data", "volume": f"{at}/root.qcow2"}])

    def root(at: str) -> Any:
        return resource("Volume", "root.qcow2", pool=at, backing="images/base.qcow2")

    base = resource("Volume", "base.qcow2", pool="images", capacity="8MiB")
    project.converge(*POOLS, base, root("images"), machine("images"))
    project.write(*POOLS, base, root("fast"), machine("images"))
    said = project.plan()
    assert "does not move with it" in said.out or "there is no volume/images/root.qcow2" in said.err, said
    assert kvmstate("snapshot", "create", "web", "--name", "one", "-c", project.uri).code == 0
    project.write(*POOLS, base, root("fast"), machine("fast"))
    said = project.plan()
    assert "blocked: snapshot one of virtual machine web needs volume/images/root.qcow2 where it is" in said.out, said
    assert project.apply().code == 1
    assert kvmstate("snapshot", "delete", "web", "one", "--auto-approve", "-c", project.uri).code == 0
    connection.storagePoolLookupByName("images").refresh()
    project.converge()
    assert both(connection) == ("fast/root.qcow2", "fast/root.qcow2")
    # the layer alone was copied: it lies on the same base
    text = connection.storagePoolLookupByName("fast").storageVolLookupByName("root.qcow2").XMLDesc()
    assert document(text).findtext("backingStore/path") == "/var/lib/libvirt/behaviours/images/base.qcow2"


def test_what_does_not_fit_there_stays_where_it_is(project: Project, connection: libvirt.virConnect) -> None:
    with small_disk(project.host, "/var/lib/libvirt/behaviours/small", "4m"):
        small = pool("small")
        for state in ("running", "stopped"):
            project.converge(*POOLS, small, web(state=state))
            fill(project)
            with project.path("images/web-data").open("r+b") as file:
                file.write(os.urandom(8 << 20))
                file.seek(1 << 20)
                file.write(DATA)
            # what would be deleted stays as well
            project.converge(*POOLS, small, web(state=state, lifecycle={"deletion": "delete"}))
            project.write(*POOLS, small, web("small", state=state, lifecycle={"deletion": "delete"}))
            failed = project.apply("--prune", "--max-delete-share", "100%")
            assert failed.code == 1, failed
            assert on(connection, libvirt.VIR_DOMAIN_XML_INACTIVE) == on(connection) == "images/web-data"
            assert held(project, "images") == DATA
            # thought better of
            project.converge(*POOLS, small, web(state=state))
            project.converge(options=("--prune",))
            for left in connection.storagePoolLookupByName("small").listAllVolumes():
                left.delete()
        for each in ("destroy", "undefine"):
            getattr(connection.storagePoolLookupByName("small"), each)()


def test_a_saved_plan_moves_what_it_has_shown(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(*POOLS, web())
    fill(project)
    project.write(*POOLS, web("fast"))
    file = str(project.folder / "saved")
    assert project.plan("--out", file).code == 2
    assert kvmstate("apply", file, "--auto-approve").code == 0
    assert both(connection) == ("fast/web-data", "fast/web-data")
    assert held(project, "fast") == DATA
    assert project.plan().code == 0
    # of a part of it as well
    connection.storagePoolLookupByName("images").storageVolLookupByName("web-data").delete()
    project.write(*POOLS, web("images"))
    assert project.apply("--target", "volume/images/web-data").code == 0
    assert both(connection) == ("images/web-data", "images/web-data")
    assert held(project, "images") == DATA
    assert project.plan().code == 0


def test_all_disks_of_a_machine_move_at_once_and_nothing_else_with_them(
    project: Project, connection: libvirt.virConnect
) -> None:
    (project.folder / "image").write_bytes(DATA * 256)
    names = [f"d{number}" for number in range(6)]

    def machine(at: str, state: str, **spec: Any) -> Any:
        made = {"pool": at, "format": "raw", "content": {"file": "image"}, **spec}
        return idle("web", state=state, disks=[{"name": name, "create": made} for name in names])

    project.converge(*POOLS, machine("images", "running"))
    # with more than the pool it would be another one, and empty
    project.write(*POOLS, machine("fast", "running", capacity="4MiB"))
    said = " ".join(project.plan().out.split())
    assert "blocked: it takes the place of volume/images/web-d0, which holds data, and more than where it is" in said
    assert project.apply("--prune", "--max-delete-share", "100%").code == 1
    assert "blocked: it takes the place of volume/images/web-d0" in " ".join(project.plan().out.split())
    for at, state in (("fast", "running"), ("images", "stopped")):
        if state == "stopped":
            project.converge(*POOLS, machine("fast", state))
            for name in names:
                connection.storagePoolLookupByName(at).storageVolLookupByName(f"web-{name}").delete()
        project.converge(*POOLS, machine(at, state))
        root = document(connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        sources = [source.get("file") for source in root.iterfind("devices/disk/source")]
        assert sources == [f"/var/lib/libvirt/behaviours/{at}/web-{name}" for name in names]
        assert all(project.path(f"{at}/web-{name}").read_bytes() == DATA * 256 for name in names)


def test_a_new_pool_takes_over_from_one_that_goes(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(POOLS[0], web())
    fill(project)
    project.converge(POOLS[1], web("fast"), options=("--prune",))
    assert both(connection) == ("fast/web-data", "fast/web-data")
    assert [each.name() for each in connection.listAllStoragePools()] == ["fast"]
    assert held(project, "fast") == held(project, "images") == DATA
    # back, where neither pool is active at first
    connection.lookupByName("web").destroy()
    connection.storagePoolLookupByName("fast").destroy()
    project.path("images/web-data").unlink()
    project.write(*POOLS, web("images", state="stopped"))
    project.apply()
    project.converge()
    assert on(connection) == "images/web-data"
    assert held(project, "images") == DATA
