"""A volume is known by more than its name: another one of its name is not the project's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import libvirt
import pytest
from harness import Project, kvmstate, pool, resource

pytestmark = pytest.mark.real
# over ssh a plan that deletes nothing takes a volume of the name for the one it knows
FAR = bool(os.environ.get("KVMSTATE_TEST_SSH"))

DATA = resource(
    "Volume", "data", {"deletion": "delete", "replace": "allow"}, pool="images", format="raw", capacity="1MiB"
)


def swap(project: Project, connection: libvirt.virConnect) -> None:
    """Somebody deletes it, and makes another one of its name."""
    project.path("images/data").unlink()
    project.path("images/data").write_bytes(b"theirs".ljust(1 << 20, b"\0"))
    connection.storagePoolLookupByName("images").refresh()


def restore(project: Project, connection: libvirt.virConnect) -> None:
    """A backup is copied back."""
    shutil.copy2(project.path("images/data"), project.folder / "backup")
    project.path("images/data").unlink()
    shutil.copy2(project.folder / "backup", project.path("images/data"))
    connection.storagePoolLookupByName("images").refresh()


def move_over(project: Project, connection: libvirt.virConnect) -> None:
    other = project.path("images/other")
    other.write_bytes(b"theirs".ljust(1 << 20, b"\0"))
    other.replace(project.path("images/data"))
    connection.storagePoolLookupByName("images").refresh()


@pytest.mark.parametrize("change", [swap, restore, move_over])
def test_another_volume_of_the_name_is_not_deleted(
    change: object, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), DATA)
    change(project, connection)  # type: ignore[operator]
    held = project.path("images/data").read_bytes()
    planned = project.plan()
    assert FAR or "blocked: it is not the object that this project made" in planned.out
    project.write(pool())
    assert project.apply("--prune").code == 0
    assert project.path("images/data").read_bytes() == held
    assert kvmstate("destroy", str(project.folder), "--auto-approve").code == 0
    assert project.path("images/data").read_bytes() == held


def test_adopt_says_that_it_is_the_one(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA)
    restore(project, connection)
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    assert project.plan().code == 0
    project.converge(pool(), options=("--prune",))
    assert not project.path("images/data").exists()


def test_a_saved_plan_notices_the_swap(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA)
    project.write(pool())
    saved = str(project.folder / "plan.json")
    assert project.kvmstate("plan", "--prune", "--out", saved).code == 0
    swap(project, connection)
    applied = kvmstate("apply", saved)
    assert applied.code == 1
    assert "volume/images/data: is another object of this name" in applied.err
    assert project.path("images/data").exists()


def test_what_another_project_made_since_is_not_deleted(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), DATA)
    project.path("images/data").unlink()
    connection.storagePoolLookupByName("images").refresh()
    other = Project(project.host, tmp_path / "other", "other")
    other.converge(DATA)
    project.write(pool())
    assert project.apply("--prune").code == 0
    assert project.path("images/data").exists()
    assert other.plan().code == 0


def test_the_same_file_by_another_pool_belongs_to_its_owner(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), {**DATA, "lifecycle": {"preventDestroy": True}})
    folder = "/var/lib/libvirt/behaviours/./images"
    connection.storagePoolCreateXML(f"<pool type='dir'><name>alias</name><target><path>{folder}</path></target></pool>")
    other = Project(project.host, tmp_path / "other", "other")
    other.write({**DATA, "spec": {**DATA["spec"], "pool": "alias"}})
    adopted = other.kvmstate("adopt", "--auto-approve")
    assert adopted.code == 1
    assert "it is owned by project shop, as volume/images/data" in adopted.out
    hint = "declare it as volume/images/data, and hand it over: `kvmstate transfer volume/images/data --to other`"
    assert f"hint: {hint} in the folder of project shop" in adopted.out
    assert project.path("images/data").exists()
    connection.storagePoolLookupByName("alias").destroy()


def test_growing_another_volume_of_the_name_is_refused(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA)
    swap(project, connection)
    project.write(pool(), {**DATA, "spec": {**DATA["spec"], "capacity": "2MiB"}})
    assert project.apply().code == 1
    assert project.path("images/data").stat().st_size == 1 << 20


def test_what_is_written_to_a_volume_does_not_change_what_it_is(project: Project) -> None:
    project.converge(pool(), DATA)
    with project.path("images/data").open("r+b") as file:
        file.write(b"more")
    assert project.plan().code == 0
    project.converge(pool(), options=("--prune",))
    assert not project.path("images/data").exists()
