"""Passwords reach the host and nobody's screen."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, resource

pytestmark = pytest.mark.real

PATH = "./devices/graphics[@type='vnc']/@passwd"


def machine(**xml: str) -> dict[str, Any]:
    said = {"graphics": [{"type": "vnc"}], **({"xml": {PATH: xml["passwd"]}} if xml else {})}
    return resource("VirtualMachine", "web", memory="64MiB", state="stopped", **said)


def password(connection: libvirt.virConnect) -> str:
    text = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    return text.partition("passwd='")[2].partition("'")[0]


def test_a_password_is_set_changed_and_taken_away_and_never_shown(
    project: Project, connection: libvirt.virConnect
) -> None:
    said = [project.converge(machine(passwd="one-pass"))]
    assert password(connection) == "one-pass"
    project.write(machine(passwd="two-pass"))
    changed = project.plan()
    assert (changed.code, "(sensitive value)" in changed.out) == (2, True)
    said += [changed, project.plan("--json"), project.plan("--markdown"), project.kvmstate("drift", "--json")]
    said += [project.apply("--json"), project.plan()]
    assert (password(connection), said[-1].code) == ("two-pass", 0)
    said.append(project.converge(machine()))
    assert password(connection) == ""
    for run in said:
        assert "one-pass" not in str(run)
        assert "two-pass" not in str(run)
