"""A libvirtd that is killed while it starts a network leaves the bridge, of which the next one knows nothing."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, resource
from trouble import inside

pytestmark = pytest.mark.real


def lan(active: bool, **spec: Any) -> dict[str, Any]:
    return resource("Network", "lan", active=active, **spec)


def test_a_network_whose_bridge_libvirt_named_starts_all_the_same(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(lan(False))
    network = connection.networkLookupByName("lan")
    taken, uuid = network.bridgeName(), network.UUIDString()
    inside(project.host, f"ip link add {taken} type bridge")
    try:
        project.converge(lan(True))
        found = connection.networkLookupByName("lan")
        assert (found.isActive(), found.UUIDString()) == (1, uuid)
    finally:
        # newer libvirt takes the bridge over, or away
        inside(project.host, f"ip link delete {taken} || :")


def test_a_bridge_that_the_manifest_names_is_an_error_that_says_what_to_do(project: Project) -> None:
    project.converge(lan(False, bridge={"name": "kvm7"}))
    inside(project.host, "ip link add kvm7 type bridge")
    try:
        project.write(lan(True, bridge={"name": "kvm7"}))
        failed = project.apply()
        assert failed.code == 1
        assert "error creating bridge interface kvm7: File exists" in failed.out
        assert "hint: the host has a device kvm7 already, perhaps left by a libvirtd that was killed" in failed.out
    finally:
        inside(project.host, "ip link delete kvm7 || :")
    project.converge()
