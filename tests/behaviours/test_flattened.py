"""A layer that was flattened stands alone, which is not a difference: nothing is created again for it."""

from __future__ import annotations

import subprocess
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource, until

pytestmark = pytest.mark.real

ALLOWED = {"replace": "allow"}


def base(name: str = "base.qcow2") -> Any:
    return resource("Volume", name, pool="images", format="qcow2", capacity="8MiB")


def layer(over: str = "base.qcow2", **spec: Any) -> Any:
    return resource("Volume", "clone.qcow2", ALLOWED, pool="images", backing=f"images/{over}", **spec)


def machine(state: str = "stopped") -> Any:
    return idle("vm", disks=[{"name": "root", "volume": "images/clone.qcow2"}], state=state)


def flatten(project: Project, connection: libvirt.virConnect, how: str) -> None:
    if how == "kvmstate":
        done = kvmstate("snapshot", "flatten", "vm", "-c", project.uri)
        assert done.code == 0, done
        return
    domain = connection.lookupByName("vm")
    domain.blockPull("vda", 0, 0)
    until(lambda: not domain.blockJobInfo("vda", 0), "the pull has ended")
    connection.storagePoolLookupByName("images").refresh()


@pytest.mark.parametrize(("how", "state"), [("kvmstate", "stopped"), ("kvmstate", "running"), ("virsh", "running")])
def test_a_flattened_layer_is_left_alone(
    project: Project, connection: libvirt.virConnect, how: str, state: str
) -> None:
    project.converge(pool(), base(), layer(), machine(state))
    made = project.path("images/clone.qcow2").stat().st_ino
    flatten(project, connection, how)
    assert (
        "backing"
        not in subprocess.run(
            ["qemu-img", "info", "-U", project.path("images/clone.qcow2")], check=True, capture_output=True, text=True
        ).stdout
    )
    for command in ("plan", "drift"):
        planned = project.kvmstate(command, "--detailed-exitcode") if command == "plan" else project.kvmstate(command)
        assert planned.code == 0, planned
        assert "backing" not in planned.out
    # when nothing refers to it, either, and the manifest is applied once more
    project.converge(pool(), base(), layer())
    project.converge(pool(), base(), layer(capacity="16MiB"))
    project.converge(pool(), base(), layer(capacity="16MiB"), machine(state))
    assert project.path("images/clone.qcow2").stat().st_ino == made


def test_another_backing_than_declared_is_a_difference(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), base(), base("other.qcow2"), layer(), machine())
    # somebody has put it onto another one
    clone = project.path("images/clone.qcow2")
    inside = "/var/lib/libvirt/behaviours/images/other.qcow2"
    subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", inside, clone], check=True)
    connection.storagePoolLookupByName("images").refresh()
    planned = project.plan()
    assert planned.code == 2
    assert "images/other.qcow2 -> images/base.qcow2" in planned.out
    subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", "/elsewhere/base.qcow2", clone], check=True)
    connection.storagePoolLookupByName("images").refresh()
    planned = project.plan()
    assert planned.code == 2
    assert "backing:" in planned.out, "what lies below is in no pool, and not nothing"


def test_a_backing_that_was_never_applied_is_a_difference(project: Project) -> None:
    alone = resource("Volume", "clone.qcow2", pool="images", capacity="8MiB")
    project.converge(pool(), base(), alone)
    project.write(pool(), base(), layer() | {"lifecycle": {}})
    planned = project.plan()
    assert planned.code == 2
    assert "backing" in planned.out
    assert "blocked" in planned.out


def test_a_flattened_layer_over_another_volume_is_a_difference(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), base(), base("other.qcow2"), layer(), machine())
    flatten(project, connection, "kvmstate")
    project.write(pool(), base(), base("other.qcow2"), layer("other.qcow2") | {"lifecycle": {}}, machine())
    planned = project.plan()
    assert "blocked: backing cannot change without deleting it and creating it again" in planned.out
