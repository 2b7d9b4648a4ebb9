"""A machine that somebody else made has no free slots for what is plugged in: that waits for the next start."""

from __future__ import annotations

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real


def test_what_finds_no_slot_waits_with_all_else(project: Project, connection: libvirt.virConnect) -> None:
    disk = {"name": "more", "create": {"pool": "images", "capacity": "1MiB"}}
    others = [pool(), resource("Network", "lan")]
    project.converge(*others, idle("web", machine="q35", pciePorts=0))
    two = [{"name": each, "network": "lan"} for each in ("one", "two")]
    project.write(*others, idle("web", machine="q35", pciePorts=0, memory="48MiB", disks=[disk], interfaces=two))
    applied = project.apply()
    assert applied.code == 0, applied
    assert "No more available PCI slots" in applied.out, applied
    plan = project.plan()
    assert plan.code == 0, plan
    for place in ("memory", "interfaces[two]"):
        assert f"  {place}" in plan.out, plan
    assert project.syncs()["domain/web"] == "RestartPending"
    before = connection.lookupByName("web").ID()
    rebooted = kvmstate("vm", "reboot", "web", "--apply-pending", "-c", project.uri)
    assert rebooted.code == 0, rebooted
    assert connection.lookupByName("web").ID() != before
    assert project.plan().out.strip() == "No changes."
    assert {*project.syncs().values()} == {"InSync"}
