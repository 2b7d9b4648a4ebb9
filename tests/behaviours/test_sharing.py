"""Nothing comes to write to an image that something else writes to, or that a layer lies on, unless that is said to be
meant; what is so already stays so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, Run, idle, kvmstate, pool, resource

from kvmstate import sandbox

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours/images"
FOREIGN = """<domain type='qemu'><name>foreign</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>
<disk type='{type}' device='disk'><driver name='qemu' type='raw'/><source {source}/>
<target dev='vda' bus='virtio'/>{more}
</disk></devices></domain>"""


def volume(name: str = "data", **spec: Any) -> Any:
    given = {} if "backing" in spec else {"capacity": "4MiB", "format": "raw"}
    return resource("Volume", name, pool="images", **given | spec)


def machine(name: str, **disk: Any) -> Any:
    return idle(
        name, state="stopped", disks=[{"name": "data", **({} if "file" in disk else {"volume": "images/data"}), **disk}]
    )


def refused(project: Project, *documents: Any) -> str:
    project.write(*documents)
    planned = project.plan()
    assert planned.code == 1, planned
    assert "manifests.yaml:" in planned.err
    assert "hint: " in planned.err
    return planned.err


def accepted(project: Project, *documents: Any) -> Run:
    project.write(*documents)
    planned = project.plan()
    assert planned.code in (0, 2), planned
    return planned


def test_two_machines_do_not_come_to_write_to_one_image(project: Project) -> None:
    said = refused(project, pool(), volume(), machine("a"), machine("b"))
    assert "spec.disks[0]: virtual machine a writes to volume images/data, too" in said
    # by volume and by file
    said = refused(project, pool(), volume(), machine("a"), machine("b", file=f"{FOLDER}/data", format="raw"))
    assert "virtual machine a writes to volume images/data, too" in said
    accepted(project, pool(), volume(), machine("a"), machine("b", readOnly=True))
    project.converge(pool(), volume(), machine("a"))
    assert "virtual machine a writes to" in refused(project, pool(), volume(), machine("a"), machine("b"))
    project.converge(pool(), volume(), volume("other"), machine("a"), machine("b", volume="images/other"))
    assert "virtual machine a writes to" in refused(
        project, pool(), volume(), volume("other"), machine("a"), machine("b")
    )
    # one that changes hands
    project.converge(pool(), volume(), volume("other"), machine("a", volume="images/other"), machine("b"))


def test_one_machine_does_not_come_to_write_twice_to_one_image(project: Project) -> None:
    twice = [{"name": name, "volume": "images/data"} for name in ("one", "two")]
    said = refused(project, pool(), volume(), idle("a", state="stopped", disks=twice))
    assert "another disk of this machine writes to volume images/data, too" in said


def test_what_is_said_to_be_shareable_is_shared_when_both_say_so(
    project: Project, connection: libvirt.virConnect
) -> None:
    assert "writes to" in refused(project, pool(), volume(), machine("a"), machine("b", shareable=True))
    project.converge(pool(), volume(), machine("a", shareable=True), machine("b", shareable=True))
    for name in "ab":
        assert "<shareable/>" in connection.lookupByName(name).XMLDesc()
        connection.lookupByName(name).create()
    assert "writes to" in refused(project, pool(), volume(), machine("a", shareable=True), machine("b"))
    assert project.kvmstate("validate").code == 0
    project.write(machine("a", file="/x", format="qcow2", shareable=True))
    assert "a shareable disk has format raw: QEMU shares no qcow2 image" in project.plan().err


@pytest.mark.parametrize(
    ("type_", "source"),
    [
        ("file", f"file='{FOLDER}/data'"),
        ("file", f"file='{FOLDER}/../images/data'"),
        ("volume", "pool='images' volume='data'"),
    ],
)
def test_foreign_machines_count(project: Project, connection: libvirt.virConnect, type_: str, source: str) -> None:
    project.converge(pool(), volume())
    foreign = connection.defineXML(FOREIGN.format(type=type_, source=source, more=""))
    assert "virtual machine foreign writes to" in refused(project, pool(), volume(), machine("a"))
    foreign.create()
    foreign.undefine()
    assert "virtual machine foreign writes to" in refused(project, pool(), volume(), machine("a"))
    foreign.destroy()
    accepted(project, pool(), volume(), machine("a"))
    for more in ("<readonly/>", "<shareable/>"):
        connection.defineXML(FOREIGN.format(type=type_, source=source, more=more))
        accepted(project, pool(), volume(), machine("a", shareable=more == "<shareable/>"))
        connection.lookupByName("foreign").undefine()


@pytest.mark.parametrize("way", ["link", "alias", "hard"])
def test_an_image_is_one_by_whatever_path(way: str, project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume())
    sandbox.execute(
        project.host, ["sh", "-ec", f"cd {FOLDER}/..; ln -s images {way}; mkdir -p hards; ln images/data hards/data"]
    )
    folder = f"{FOLDER}/../{'hards' if way == 'hard' else way}"
    if way == "alias":
        connection.storagePoolDefineXML(
            f"<pool type='dir'><name>alias</name><target><path>{folder}</path></target></pool>"
        ).create()
    file = str(Path(os.path.normpath(folder)) / "data")
    both = [machine("a"), idle("b", state="stopped", disks=[{"name": "data", "file": file, "format": "raw"}])]
    assert "two that write to one image destroy what it holds" in refused(project, pool(), volume(), *both)
    connection.defineXML(FOREIGN.format(type="file", source=f"file='{file}'", more=""))
    assert "virtual machine foreign writes to" in refused(project, pool(), volume(), machine("a"))


def test_nobody_comes_to_write_to_what_a_layer_lies_on(project: Project) -> None:
    layer = volume("layer", backing="images/data")
    said = refused(project, pool(), volume(), layer, machine("a"))
    assert "virtual machine a writes to volume images/data: that destroys a layer over it" in said
    project.converge(pool(), volume(), layer)
    said = refused(project, pool(), volume(), layer, machine("a"))
    assert "spec.disks[0]: volume images/layer is a layer over volume images/data, which must not be" in said
    accepted(project, pool(), volume(), layer, machine("a", readOnly=True))
    accepted(project, pool(), volume(), layer, machine("a", volume="images/layer"))
    project.converge(pool(), volume(), layer, machine("a", volume="images/layer"))
    # as it lies, not as it is declared
    done = kvmstate("snapshot", "flatten", "a", "-c", project.uri)
    assert done.code == 0, done
    project.converge(pool(), volume(), layer, machine("a", volume="images/layer"), machine("b"))


def test_layers_that_others_made_count(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume())
    path = project.path("images/theirs.qcow2")
    subprocess.run(
        ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", f"{FOLDER}/data", "-F", "raw", path, "4M"], check=True
    )
    connection.storagePoolLookupByName("images").refresh()
    assert "volume images/theirs.qcow2 is a layer over" in refused(project, pool(), volume(), machine("a"))


JSON = f'json:{{"driver":"file","filename":"{FOLDER}/data"}}'


@pytest.mark.parametrize("base", ["data", JSON, "../link/data"])
def test_layers_count_however_they_name_what_they_lie_on(base: str, project: Project) -> None:
    """And also when their pool has not been looked at since they were made."""
    project.converge(pool(), volume())
    project.path("link").unlink(missing_ok=True)
    project.path("link").symlink_to("images")
    path = project.path("images/theirs.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "raw", path, "4M"], check=True)
    assert "volume images/theirs.qcow2 is a layer over" in refused(project, pool(), volume(), machine("a"))


@pytest.mark.parametrize("writes", [True, False])
def test_a_machine_that_has_gone_is_not_made_anew_below_its_overlay(
    writes: bool, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume(), machine("a"))
    done = kvmstate("snapshot", "create", "a", "--name", "one", "-c", project.uri)
    assert done.code == 0, done
    overlay = project.path("images/data.one.overlay")
    if writes:
        script = f"qemu-io -f qcow2 -c 'write -P 7 0 64k' {FOLDER}/{overlay.name}"
        sandbox.execute(project.host, ["sh", "-ec", f"{script} >/dev/null"])
    connection.lookupByName("a").undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
    if writes:
        assert "volume images/data.one.overlay is a layer over" in refused(project, pool(), volume(), machine("a"))
    else:
        project.converge(pool(), volume(), machine("a"))
    assert overlay.exists()


def test_a_layer_does_not_come_to_lie_on_what_is_written_to(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume(), machine("a"))
    said = refused(project, pool(), volume(), machine("a"), volume("layer", backing="images/data"))
    assert "spec.backing: virtual machine a writes to volume images/data: that destroys a layer over it" in said
    project.converge(pool(), volume(), idle("a", state="stopped", disks=[]))
    connection.defineXML(FOREIGN.format(type="file", source=f"file='{FOLDER}/data'", more=""))
    said = refused(
        project, pool(), volume(), idle("a", state="stopped", disks=[]), volume("layer", backing="images/data")
    )
    assert "virtual machine foreign writes to volume images/data" in said


@pytest.mark.parametrize("place", ["theirs", "elsewhere"])
@pytest.mark.parametrize("running", [True, False])
def test_a_layer_that_another_machine_writes_to_is_named_and_its_base_may_have_more(
    running: bool, place: str, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume())
    folder = f"{FOLDER}/../{place}"
    command = f"mkdir -p {folder}; qemu-img create -q -f qcow2 -b {FOLDER}/data -F raw {folder}/layer"
    sandbox.execute(project.host, ["sh", "-ec", command])
    text = f"<pool type='dir'><name>theirs</name><target><path>{FOLDER}/../theirs</path></target></pool>"
    connection.storagePoolDefineXML(text).create() if place == "theirs" else None
    foreign = FOREIGN.format(type="file", source=f"file='{os.path.normpath(folder)}/layer'", more="")
    domain = connection.defineXML(foreign.replace("type='raw'", "type='qcow2'"))
    if running:
        domain.create()
        domain.undefine()
    layer = "volume theirs/layer" if place == "theirs" else "/elsewhere/layer of virtual machine foreign"
    said = refused(project, pool(), volume(), machine("a"))
    assert f"{layer} is a layer over volume images/data, which must not be written to" in said
    # it writes to its own layer, and to nothing below
    accepted(project, pool(), volume(), volume("layer", backing="images/data"))


def test_overlays_of_snapshots_are_no_layers(project: Project) -> None:
    project.converge(pool(), volume(), machine("a"))
    for name in ("one", "two"):
        done = kvmstate("snapshot", "create", "a", "--name", name, "-c", project.uri)
        assert done.code == 0, done
    project.converge(pool(), volume(), machine("a", cache="none"))
    both = [{"name": "data", "volume": "images/data"}, {"name": "more", "volume": "images/more"}]
    project.converge(pool(), volume(), volume("more"), idle("a", state="stopped", disks=both))


def test_what_is_shared_already_is_imported_told_and_left(
    project: Project, connection: libvirt.virConnect, tmp_path: Any
) -> None:
    project.converge(pool(), volume())
    text = FOREIGN.format(type="file", source=f"file='{FOLDER}/data'", more="")
    for name in ("foreign", "another"):
        connection.defineXML(text.replace("foreign", name))
    imported = kvmstate("import", "--all", "--output", str(tmp_path / "lab"), "-c", project.uri)
    assert "Resources: 2 imported" in imported.out
    planned = kvmstate("plan", "--detailed-exitcode", str(tmp_path / "lab"))
    assert planned.code == 0, planned
    assert "note: virtual machines another, foreign write to images/data, which destroys what it holds" in planned.out
    manifest = next((tmp_path / "lab").rglob("*foreign*.yaml"))
    manifest.write_text(manifest.read_text().replace("memory: 32MiB", "memory: 33MiB"))
    planned = kvmstate("plan", "--detailed-exitcode", str(tmp_path / "lab"))
    assert planned.code == 2, planned
    # what is lost is made as it was
    connection.lookupByName("another").undefine()
    applied = kvmstate("apply", "--auto-approve", str(tmp_path / "lab"))
    assert applied.code == 0, applied
    assert connection.lookupByName("another")


def test_a_machine_of_another_name_is_pruned_or_moved(project: Project) -> None:
    project.converge(pool(), volume(), machine("a"))
    said = refused(project, pool(), volume(), machine("b"))
    assert "if it was called a before, write `moved` into kvmstate.yaml" in said
    project.converge(pool(), volume(), machine("b"), options=("--prune",))


def test_the_daemons_plan_blocks_what_would_be_shared_and_goes_on(project: Project) -> None:
    from kvmstate.app import open_session
    from kvmstate.manifest.project import load_project
    from kvmstate.plan import Options

    project.write(pool(), volume(), machine("a"), machine("b"))
    loaded = load_project(project.folder).load(())
    with open_session(project.uri, project.name, loaded.resources, loaded.place) as session:
        plan = session.plan(Options(lenient=True))
    assert [str(change.id) for change in plan.blocked] == ["domain/b"]
