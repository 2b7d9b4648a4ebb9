"""Destroy, then apply: what stays on the host is the project's again, as it was; what goes is said before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import MAIN, Project, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real

ROOT = {"name": "root", "volume": "images/root.qcow2"}


def on_host(project: Project, script: str) -> str:
    call = [sys.executable, "-c", MAIN, "sandbox", "exec", "--name", project.host.name, "--", "sh", "-c", script]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout


def volume(name: str = "root.qcow2", lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, lifecycle, pool="images", **{"capacity": "8MiB"} | spec)


def destroyed(project: Project) -> str:
    done = project.kvmstate("destroy", "--auto-approve")
    assert done.code == 0, done
    assert project.plan("--prune").code == 2
    return done.out


def write(project: Project, name: str) -> bytes:
    with project.path(name).open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"what the guest wrote")
    return project.path(name).read_bytes()


def test_volumes_come_back_with_their_data(project: Project, connection: libvirt.virConnect) -> None:
    (project.folder / "image").write_bytes(b"content".ljust(8 << 20, b"\0"))
    documents = [
        pool(),
        volume("data", format="raw"),
        volume("filled", format="raw", content={"file": "image"}),
        volume("base.qcow2"),
        resource("Volume", "root.qcow2", pool="images", backing="images/base.qcow2"),
        idle("vm", disks=[ROOT, {"name": "data", "volume": "images/data"}]),
    ]
    project.converge(*documents)
    held = {name: write(project, name) for name in ("images/data", "images/filled")}
    inode = project.path("images/root.qcow2").stat().st_ino
    out = destroyed(project)
    assert "deletion: orphan keeps it on the host, with its data" in out
    assert "volume/images/data " not in project.kvmstate("drift").out
    assert "+ volume/" not in project.plan().out
    project.converge()
    assert {name: project.path(name).read_bytes() for name in held} == held
    assert project.path("images/root.qcow2").stat().st_ino == inode
    destroyed(project)
    # with a pool that is there, the plan says it
    connection.storagePoolDefineXML(
        "<pool type='dir'><name>images</name><target><path>/var/lib/libvirt/behaviours/images</path></target></pool>"
    ).create()
    project.write(*documents[1:])
    assert project.plan().out.count("will be adopted   (it was left on the host, and is this project's again)") == 4
    project.converge(options=("--prune",))


def test_what_has_changed_since_is_applied_too(project: Project) -> None:
    project.converge(pool(), volume("data", format="raw"))
    held = write(project, "images/data")
    destroyed(project)
    project.converge(pool(), volume("data", {"deletion": "delete"}, format="raw", capacity="16MiB"))
    assert project.path("images/data").read_bytes()[: 8 << 20] == held
    project.converge(pool(), options=("--prune",))
    assert not project.path("images/data").exists()


def test_what_would_be_replaced_is_not_taken_back(project: Project) -> None:
    lifecycle = {"replace": "allow"}
    project.converge(pool(), volume("data", lifecycle, format="raw"))
    held = write(project, "images/data")
    destroyed(project)
    project.write(pool(), volume("data", lifecycle, format="qcow2"))
    applied = project.apply()
    assert applied.code == 1
    assert "blocked: it was left on the host, and format would replace it" in applied.out
    assert "  hint: apply it as it was before" in applied.out
    assert project.path("images/data").read_bytes() == held
    project.converge(pool(), volume("data", lifecycle, format="raw"))
    assert project.path("images/data").read_bytes() == held
    project.converge(pool(), volume("data", lifecycle, format="qcow2"))


def test_another_volume_of_the_name_is_not_taken(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("data", format="raw"))
    destroyed(project)
    path = project.path("images/data")
    path.unlink()
    path.write_bytes(b"theirs".ljust(8 << 20, b"\0"))
    applied = project.apply()
    assert applied.code == 1
    assert "it exists on the host, and this project does not own it" in applied.out
    assert "`kvmstate adopt` takes ownership" in applied.out
    assert path.read_bytes().startswith(b"theirs")
    path.unlink()
    # one that is gone was nobody's
    project.converge()


def test_what_another_project_owns_by_now_stays_with_it(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    data = volume("data", format="raw")
    project.converge(pool(), data)
    project.converge(pool(), options=("--prune",))
    other = Project(project.host, tmp_path / "other", "other")
    other.write(data)
    assert other.kvmstate("adopt", "--auto-approve").code == 0
    project.write(pool(), data)
    planned = project.plan()
    assert "it is owned by project other" in planned.out
    assert project.apply().code == 1
    assert other.plan().code == 0
    assert other.kvmstate("destroy", "--auto-approve").code == 0
    project.converge()


def test_another_project_of_the_name_gets_nothing(project: Project, tmp_path: Path) -> None:
    with (project.folder / "kvmstate.yaml").open("a") as file:
        file.write("id: 11111111-1111-4111-8111-111111111111\n")
    project.converge(pool(), volume("data", format="raw"))
    destroyed(project)
    again = Project(project.host, tmp_path / "again", project.name)
    with (again.folder / "kvmstate.yaml").open("a") as file:
        file.write("id: 22222222-2222-4222-8222-222222222222\n")
    again.write(pool(), volume("data", format="raw"))
    applied = again.apply()
    assert applied.code == 1
    assert "`kvmstate adopt` takes ownership of it" in applied.out


def test_a_network_that_was_left_is_taken_back(project: Project, connection: libvirt.virConnect) -> None:
    lan = resource("Network", "lan", {"deletion": "orphan"})
    project.converge(lan)
    uuid = connection.networkLookupByName("lan").UUIDString()
    destroyed(project)
    project.converge()
    assert connection.networkLookupByName("lan").UUIDString() == uuid


MACHINE = """
<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory><os{}><type machine='q35'>hvm</type></os>
  <features><acpi/></features><devices>{}</devices></domain>
"""


def test_a_machine_is_made_again_with_its_state(project: Project, connection: libvirt.virConnect) -> None:
    vm = idle("vm", state="stopped", type="qemu", firmware="efi", machine="q35")
    project.converge(vm)
    uuid = connection.lookupByName("vm").UUIDString()
    out = destroyed(project)
    assert "kept for it to be made again: firmware variables" in out
    project.converge()
    assert connection.lookupByName("vm").UUIDString() == uuid
    # a copy of it by another name
    destroyed(project)
    connection.defineXML(f"<domain type='qemu'><name>copy</name><uuid>{uuid}</uuid><memory>1024</memory>"
                         "<os><type>hvm</type></os></domain>")  # fmt: skip
    project.converge()
    vm["lifecycle"]["deletion"] = "delete"
    project.converge(vm)
    assert "lost with it: firmware variables" in destroyed(project)
    project.converge()
    assert connection.lookupByName("vm").UUIDString() != uuid


def test_saved_memory_is_not_lost_unasked(project: Project, connection: libvirt.virConnect) -> None:
    vm = idle("vm", type="qemu")
    project.converge(vm)
    connection.lookupByName("vm").managedSave()
    done = project.kvmstate("destroy", "--auto-approve")
    assert done.code == 1
    assert "blocked: it has saved memory, which would be lost" in done.out
    assert "`virsh managedsave-remove vm`" in done.out
    assert connection.lookupByName("vm").hasManagedSaveImage()
    vm["lifecycle"]["deletion"] = "delete"
    project.write(vm)
    assert "lost with it: the saved memory" in destroyed(project)


def test_snapshots_and_secrets_that_go_are_named(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume(), idle("vm", state="stopped", disks=[ROOT]))
    for name in ("one", "two"):
        assert kvmstate("snapshot", "create", "vm", "--name", name, "-c", project.uri).code == 0
    project.write(pool(), volume())
    assert "removed from the manifests; lost with it: snapshot one, snapshot two" in project.plan("--prune").out
    project.converge(options=("--prune",))
    connection.defineXML(MACHINE.format("", "<graphics type='vnc' passwd='secret'/>"))
    folder = str(project.folder.parent / "taken")
    assert kvmstate("import", "domain/vm", "-c", project.uri, "-o", folder, "--project", "taken").code == 0
    done = kvmstate("destroy", folder, "--auto-approve")
    assert done.code == 0, done
    assert "lost with it: the secret devices/graphics/@passwd" in done.out


def test_prune_says_what_becomes_of_a_volume(project: Project) -> None:
    project.converge(pool(), volume("kept"), volume("dropped", {"deletion": "delete"}))
    project.write(pool())
    assert (
        _line(project, "kept") == "removed from the manifests; --prune releases it; it stays on the host, with its data"
    )
    assert _line(project, "dropped") == "removed from the manifests; --prune deletes it, with its data"
    assert _line(project, "kept", "--prune").endswith("deletion: orphan keeps it on the host, with its data)")
    assert _line(project, "dropped", "--prune").endswith(
        "will be destroyed   (removed from the manifests; its data is deleted)"
    )


def _line(project: Project, name: str, *options: str) -> str:
    out = project.plan(*options).out
    line = next(line for line in out.split("\n") if f"volume/images/{name} " in line)
    return line.partition(f"{name} ")[2].strip()
