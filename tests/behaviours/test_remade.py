"""Disks that machines declare themselves are made again below them, where both lifecycles allow it."""

from __future__ import annotations

import json
from typing import Any

import libvirt
import pytest
from harness import Project, idle, pool, resource
from test_templates import base, template

pytestmark = pytest.mark.real

ALLOW = {"replace": "allow"}


def web(restart: str, of: str = "tiny@1", **spec: Any) -> dict[str, Any]:
    root = {"name": "root", "create": {"pool": "images", "template": of, "lifecycle": ALLOW}}
    return idle("web", {"restart": restart}, **{"disks": [root], "state": "running", **spec})


def number(connection: libvirt.virConnect) -> int:
    """Another one with each start."""
    return connection.lookupByName("web").ID()


def reasons(project: Project) -> dict[str, tuple[list[str], str, str]]:
    plan = json.loads(project.kvmstate("plan", "--json").out)
    return {
        each["address"]: (each["change"]["actions"], each["action_reason"], each["blocked"] or "")
        for each in plan["resource_changes"]
    }


def test_a_clone_is_made_again_from_another_version(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), template(project), web("never"))
    project.converge(pool(), template(project, version=2), web("never"))
    domain, running = connection.lookupByName("web"), number(connection)

    root = "volume/images/web-root.qcow2"
    for restart, action, why in (
        ("never", ["delete", "create"], "lifecycle.restart: never refuses to restart that"),
        ("whenOff", ["no-op"], "it is made again once domain/web is off"),
    ):
        project.write(pool(), template(project, version=2), web(restart, "tiny@2"))
        told = reasons(project)[root]
        assert told[0] == action
        assert why in told[1] + told[2]
        project.apply()
        assert base(project, "web-root.qcow2") == "tiny-v1.qcow2"
        assert number(connection) == running

    # once it is off
    domain.destroy()
    project.converge()
    assert base(project, "web-root.qcow2") == "tiny-v2.qcow2"
    assert (connection.lookupByName("web").UUIDString(), domain.isActive()) == (domain.UUIDString(), True)

    # at once
    running = number(connection)
    project.write(pool(), template(project, version=2), web("now"))
    assert reasons(project)["domain/web"][1] == f"restarts: {root} is made again"
    project.converge()
    assert base(project, "web-root.qcow2") == "tiny-v1.qcow2"
    assert domain.isActive()
    assert number(connection) != running


def test_what_a_snapshot_has_is_not_made_again(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), template(project), web("now", state="stopped"))
    project.converge(pool(), template(project, version=2), web("now", state="stopped"))
    connection.lookupByName("web").snapshotCreateXML("<domainsnapshot/>")
    project.write(pool(), template(project, version=2), web("now", "tiny@2", state="stopped"))
    assert "in use by snapshot" in project.plan().out
    assert project.apply().code == 1
    assert base(project, "web-root.qcow2") == "tiny-v1.qcow2"


def test_another_seed_makes_the_disks_again_that_begin_with_an_image(
    project: Project, connection: libvirt.virConnect
) -> None:
    data = {"name": "data", "create": {"pool": "images", "capacity": "1MiB", "format": "raw"}}
    root = {"name": "root", "create": {"pool": "images", "template": "tiny", "lifecycle": ALLOW}}

    def machine(name: str, root: dict[str, Any] = root, **told: Any) -> dict[str, Any]:
        told = {"hostname": name, "userData": {"password": "secret"}, "onChange": "replace", **told}
        return web("now", disks=[root, data], cloudInit=told)

    project.converge(pool(), template(project), machine("one", onChange="ignore"))
    domain, running = connection.lookupByName("web"), number(connection)
    # what it is to mean says nothing of the seed that is there
    project.converge(pool(), template(project), machine("one"))
    assert number(connection) == running
    project.path("images/web-data").write_bytes(b"precious".ljust(1 << 20, b"\0"))
    with project.path("images/web-root.qcow2").open("ab") as file:
        file.write(b"was here")

    # all of it, or nothing
    kept = {"name": "root", "create": {"pool": "images", "template": "tiny"}}
    project.write(pool(), template(project), machine("two", kept))
    told = reasons(project)
    assert "madeFor cannot change" in told["volume/images/web-root.qcow2"][2]
    assert "it is made again together with" in told["volume/images/web-cloud-init.iso"][2]
    assert project.apply().code == 1
    assert number(connection) == running
    assert project.path("images/web-root.qcow2").read_bytes().endswith(b"was here")

    project.converge(pool(), template(project), machine("two"))
    assert domain.isActive()
    assert number(connection) != running
    assert not project.path("images/web-root.qcow2").read_bytes().endswith(b"was here")
    assert b'local-hostname": "two"' in project.path("images/web-cloud-init.iso").read_bytes()
    assert project.path("images/web-data").read_bytes().startswith(b"precious")


def test_what_an_ignored_edit_said_is_not_what_the_seed_holds(project: Project, connection: libvirt.virConnect) -> None:
    root = {"name": "root", "create": {"pool": "images", "template": "tiny", "lifecycle": ALLOW}}
    seed, disk = project.path("images/web-cloud-init.iso"), project.path("images/web-root.qcow2")

    def machine(name: str, on_change: str, root: dict[str, Any] = root) -> dict[str, Any]:
        told = {"hostname": name, "userData": {"password": "secret"}, "onChange": on_change}
        return web("now", disks=[root], cloudInit=told)

    def used() -> None:
        with disk.open("ab") as file:
            file.write(b"was here")

    project.converge(pool(), template(project), machine("one", "ignore"))
    running = number(connection)
    used()
    project.converge(pool(), template(project), machine("two", "ignore"))
    # back to what its guest has read
    project.converge(pool(), template(project), machine("one", "replace"))
    assert number(connection) == running
    assert disk.read_bytes().endswith(b"was here")

    # on to what its guest has not read
    project.converge(pool(), template(project), machine("one", "ignore"))
    project.converge(pool(), template(project), machine("two", "ignore"))
    assert number(connection) == running
    kept = {"name": "root", "create": {"pool": "images", "template": "tiny"}}
    project.write(pool(), template(project), machine("two", "replace", kept))
    told = reasons(project)
    assert "lifecycle.replace" in project.plan().out
    assert told["volume/images/web-root.qcow2"][2], told
    assert "it is made again together with" in told["volume/images/web-cloud-init.iso"][2]
    project.converge(pool(), template(project), machine("two", "replace"))
    assert b'local-hostname": "two"' in seed.read_bytes()
    assert not disk.read_bytes().endswith(b"was here")
    assert number(connection) != running

    # a machine that is made reads what its manifest says by then
    project.converge(pool(), template(project), machine("three", "ignore"))
    assert b'local-hostname": "two"' in seed.read_bytes()
    connection.lookupByName("web").destroy()
    connection.lookupByName("web").undefine()
    project.converge(pool(), template(project), machine("three", "ignore"))
    assert b'local-hostname": "three"' in seed.read_bytes()


def test_a_template_that_says_another_seed_makes_nothing_again(
    project: Project, connection: libvirt.virConnect
) -> None:
    def of(host: str) -> list[dict[str, Any]]:
        told = {"hostname": host, "onChange": "replace", "userData": {"password": "secret"}}
        root = {"name": "root", "create": {"lifecycle": ALLOW}}
        defaults = {"memory": "32MiB", "cloudInit": told}
        clone = resource("VirtualMachine", "web", {"restart": "now"}, template="tiny", state="stopped", disks=[root])
        return [pool(), template(project, defaults=defaults), clone]

    project.converge(*of("one"))
    project.write(*of("two"))
    assert project.todo() == {}, project.plan()
    # nor does a clone that is made again get another one: the record has hashes of what it says
    seed = project.path("images/web-cloud-init.iso").read_bytes()
    connection.lookupByName("web").undefine()
    project.converge()
    assert project.path("images/web-cloud-init.iso").read_bytes() == seed
