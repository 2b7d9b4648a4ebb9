"""A machine that was shut down to be changed, and does not start again, is not left off."""

from __future__ import annotations

import libvirt
import pytest
from harness import Project, idle

pytestmark = pytest.mark.real


def test_a_machine_that_does_not_start_again_runs_as_it_was(project: Project, connection: libvirt.virConnect) -> None:
    before = idle("web", {"restart": "now"}, type="qemu")
    project.converge(before)
    web = connection.lookupByName("web")
    first, defined = web.ID(), web.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    # no folder is there for its log
    project.write(idle("web", {"restart": "now"}, type="qemu", serials=[{"port": 0, "log": "/nowhere/console.log"}]))
    failed = project.apply()
    assert failed.code == 1
    assert "/nowhere/console.log" in failed.out
    assert "; it runs again as it was before" in failed.out
    assert connection.lookupByName("web").ID() > first
    assert web.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == defined
    assert "serials[0]" in project.plan().out
    project.write(before)
    assert project.todo() == {}


def test_what_libvirt_refuses_leaves_nothing_to_take_back(project: Project) -> None:
    project.converge(idle("web"))
    project.write(idle("web", xml={"./nonsense/@one": "1"}, clock={"offset": "localtime"}))
    assert project.apply().code == 1
    project.write(idle("web"))
    assert project.plan().out.strip() == "No changes."
