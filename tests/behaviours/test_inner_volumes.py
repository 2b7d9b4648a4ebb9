"""A machine's document declares the volumes of its disks: they are resources as any others, and data stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource
from test_renames import moved

pytestmark = pytest.mark.real

DATA, ROOT = "volume/images/web-data.qcow2", "volume/images/web-root"


def web(name: str = "web", *, root: Any = None, data: Any = None, disk: str = "data", **spec: Any) -> dict[str, Any]:
    disks = [
        {"name": "root", "create": {"pool": "images", "capacity": "4MiB", "format": "raw", **(root or {})}},
        {"name": disk, "create": {"pool": "images", "capacity": "1MiB", **(data or {})}},
    ]
    return idle(name, disks=disks, **{"state": "stopped", **spec})


def written(project: Project, volume: str = "web-root") -> bytes:
    return project.path(f"images/{volume}").read_bytes()[:4]


def test_it_is_a_resource_of_its_own(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), web(state="running"))
    assert project.syncs() == dict.fromkeys(("domain/web", "pool/images", DATA, ROOT), "InSync")
    with project.path("images/web-root").open("r+b") as file:
        file.write(b"data")
    # as a document of its own it is the same, and back again
    apart = {"pool": "images", "capacity": "4MiB", "format": "raw"}
    referring = web()["spec"]["disks"]
    referring[0] = {"name": "root", "volume": "images/web-root"}
    project.write(pool(), resource("Volume", "web-root", **apart), idle("web", disks=referring))
    assert project.todo() == {}, project.plan()
    project.converge()
    project.write(pool(), web(state="running"))
    assert project.todo() == {}, project.plan()
    # grown through the machine that runs, by an edit of the machine's document
    project.converge(pool(), web(state="running", data={"capacity": "2MiB"}))
    assert connection.lookupByName("web").blockInfo("vdb")[0] == 2 << 20
    shrunk = web(state="running", data={"capacity": "1MiB"})
    project.write(pool(), shrunk)
    assert f"{DATA}" in (said := project.plan().out)
    assert "capacity cannot shrink" in said
    # what suspends the machine suspends its volumes
    shrunk["lifecycle"] |= {"suspend": True}
    project.write(pool(), shrunk)
    assert project.plan().code == 0


def test_a_new_name_makes_no_empty_disk_of_one_with_data(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), web())
    project.path("images/web-root").write_bytes(b"data" + bytes((4 << 20) - 4))
    moved(project, ("domain/web", "domain/shop"))
    project.write(pool(), web("shop"))
    said = project.plan("--prune").out
    assert "blocked: domain/shop has another name now, and would have a new one in place of" in said
    assert "write its `name:`" in said
    assert project.apply("--prune").code == 1
    assert [d.name() for d in connection.listAllDomains()] == ["web"]
    kept: dict[str, Any] = {"root": {"name": "web-root"}, "data": {"name": "web-data.qcow2"}}
    project.converge(pool(), web("shop", **kept), options=("--prune",))
    assert [d.name() for d in connection.listAllDomains()] == ["shop"]
    # another name of a disk is another disk: it is told what was there
    renamed = web("shop", root=kept["root"], disk="db")
    project.write(pool(), renamed)
    said = project.plan().out
    assert f"hint: to keep {DATA}, write `name: web-data.qcow2` beside the pool" in said
    assert "volume/images/shop-db.qcow2" in said
    project.converge(pool(), web("shop", **kept, disk="db"))
    assert written(project) == b"data"


def test_it_stays_when_its_machine_goes_unless_it_was_said(project: Project, connection: libvirt.virConnect) -> None:
    goes = web(data={"lifecycle": {"deletion": "delete"}})
    project.converge(pool(), goes)
    project.path("images/web-root").write_bytes(b"data" + bytes((4 << 20) - 4))
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert connection.listAllDomains() == connection.listAllStoragePools() == []
    assert written(project) == b"data"
    assert not project.path("images/web-data.qcow2").exists()
    # it is the same project's again
    project.converge(pool(), goes)
    assert written(project) == b"data"
    project.converge(pool(), options=("--prune",))
    assert written(project) == b"data"
    assert not project.path("images/web-data.qcow2").exists()
    # another project does not get it
    other = Project(project.host, project.folder.with_name("other"), "other")
    other.write(web())
    said = other.plan().out
    assert "kvmstate adopt" in said, said


def test_what_is_wrong_is_told_at_its_place(project: Project) -> None:
    both = [web(), web("web-1"), idle("web-root", state="stopped", disks=[])]
    both[1]["spec"]["disks"][0]["create"] |= {"name": "web-root"}
    project.write(pool(), *both)
    said = project.kvmstate("validate").err
    assert "volume/images/web-root (of domain/web-1): volume/images/web-root is declared twice: here and at " in said
    lines = (project.folder / "manifests.yaml").read_text().splitlines()
    first = next(number for number, line in enumerate(lines, 1) if "create:" in line) + 1
    assert f"manifests.yaml:{first}:" in said, said
    project.write(pool(), web(root={"backing": "images/none", "format": "qcow2"}))
    said = project.plan().err
    assert "there is no volume/images/none" in said


def test_an_import_writes_documents_of_volumes_and_these_are_the_same(project: Project) -> None:
    project.converge(pool(), web())
    folder = str(project.folder.with_name("imported"))
    options = ("-c", project.uri, "--project", "shop")
    imported = kvmstate("import", "--all", "--no-adopt", "-o", folder, *options)
    assert imported.code == 0, imported
    assert len([*Path(folder).glob("**/volumes/**/*.yaml")]) == 2, imported
    planned = kvmstate("plan", folder, "--detailed-exitcode", *options)
    assert planned.code == 0, planned


def test_another_format_is_a_replacement(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), web(root={"lifecycle": {"deletion": "delete"}}))
    project.path("images/web-root").write_bytes(b"data" + bytes((4 << 20) - 4))
    other = {"format": "qcow2", "lifecycle": {"deletion": "delete"}}
    project.write(pool(), web(root=other))
    planned = project.plan("--prune")
    assert "in another format it is another volume, empty, in place of volume/images/web-root" in planned.out
    assert project.apply("--prune").code == 1
    assert written(project) == b"data"
    assert "<source file='/var/lib/libvirt/behaviours/images/web-root'/>" in connection.lookupByName("web").XMLDesc()
    project.converge(pool(), web(root=other | {"lifecycle": {"deletion": "delete", "replace": "allow"}}))
    assert "web-root.qcow2" in connection.lookupByName("web").XMLDesc()
