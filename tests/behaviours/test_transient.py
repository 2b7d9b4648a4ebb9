"""What somebody undefined while it ran is defined again, and goes on running."""

from __future__ import annotations

import libvirt
import pytest
from harness import Project, idle, resource

pytestmark = pytest.mark.real


def test_what_was_undefined_while_it_ran_is_defined_again(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(resource("Network", "lan", autostart=True), idle("vm", state="running", autostart=True))
    network, domain = connection.networkLookupByName("lan"), connection.lookupByName("vm")
    number = domain.ID()
    network.undefine()
    domain.undefine()
    planned = project.plan()
    assert planned.out.count("persistent:") == 2, planned
    project.converge()
    assert (network.isPersistent(), domain.isPersistent()) == (1, 1)
    assert (network.isActive(), domain.ID()) == (1, number)
