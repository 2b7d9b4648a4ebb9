"""What must not be deleted: by its lifecycle, which holds without its manifest, or because something uses it."""

from __future__ import annotations

import re
from typing import Any

import libvirt
import pytest
from harness import Project, resource

pytestmark = pytest.mark.real


def network(name: str, **lifecycle: Any) -> dict[str, Any]:
    return resource("Network", name, lifecycle, active=False)


def machine(*networks: str, **lifecycle: Any) -> dict[str, Any]:
    nics = [{"network": name} for name in networks]
    return resource("VirtualMachine", "web", lifecycle, memory="64MiB", state="stopped", interfaces=nics)


def names(connection: libvirt.virConnect) -> set[str]:
    return {found.name() for found in (*connection.listAllNetworks(), *connection.listAllDomains())}


def test_protection_alone_is_a_change_and_shows_in_the_objects_xml(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(network("lan"), machine())
    project.write(network("lan", preventDestroy=True), machine(preventDestroy=True, deletion="orphan"))
    planned = project.plan()
    assert planned.code == 2
    assert "lifecycle.preventDestroy:  false -> true" in planned.out
    project.converge()
    for found in (connection.networkLookupByName("lan"), connection.lookupByName("web")):
        stamp = r"<kvmstate:resource .*project=.shop. preventDestroy=.yes."
        assert re.search(stamp, found.XMLDesc())
    project.converge(network("lan"), machine())
    assert "preventDestroy" not in connection.lookupByName("web").XMLDesc()
    assert "project=" in connection.lookupByName("web").XMLDesc()


def test_the_protection_that_was_applied_last_holds_until_the_manifest_says_otherwise(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(network("lan", preventDestroy=True), network("other"))
    project.write(network("other"))
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert destroyed.code == 1
    assert "blocked: preventDestroy forbids deleting it" in destroyed.out
    assert names(connection) == {"lan"}
    project.write(network("lan"))
    assert project.kvmstate("destroy", "--auto-approve").code == 0, "an edited lifecycle counts at once"
    assert names(connection) == set()


def test_what_a_protected_machine_uses_stays_with_it(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("lan"), network("other"), machine("lan", preventDestroy=True))
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert destroyed.code == 1
    assert "blocked: in use by domain/web, which stays" in destroyed.out
    assert names(connection) == {"lan", "web"}


def test_what_left_the_manifests_stays_while_another_manifest_names_it(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(network("lan"), network("new"), machine("lan"))
    project.write(network("new"), machine("lan"))
    applied = project.apply("--prune")
    assert applied.code == 1
    assert "blocked: in use by domain/web, which the manifests declare" in applied.out
    assert names(connection) == {"lan", "new", "web"}
    project.converge(network("new"), machine("new"), options=("--prune",))
    assert names(connection) == {"new", "web"}
