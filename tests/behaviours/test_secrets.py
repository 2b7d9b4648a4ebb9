"""Passwords reach the host and nobody's screen."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, pool, resource

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


def test_what_may_be_a_secret_is_in_no_output(project: Project, connection: libvirt.virConnect) -> None:
    """Arguments and environment of QEMU, a kernel's command line, cookies of disks, queries of URLs."""
    xml = {
        "./qemu:commandline/qemu:env/@name": "SOMETHING",
        "./qemu:commandline/qemu:env/@value": "1st-secret",
        "./os/cmdline": "2nd-secret",
        "./description": "see http://user:3rd-secret@h/x?sig=3rd-secret",
        "./sysinfo/@type": "smbios",
        "./sysinfo/oemStrings/entry": "4th-secret",
    }
    kernel = {"path": "/var/lib/libvirt/vmlinuz", "cmdline": "console=ttyS0 luks=5th-secret"}
    volume = resource("Volume", "v", pool="none", content={"url": "https://t0k3n:6th-secret@h/i?s=6th-secret"})
    volume["spec"]["content"]["checksum"] = "sha256:" + "0" * 64
    web = resource("VirtualMachine", "web", memory="64MiB", state="stopped", kernel=kernel)
    db = resource("VirtualMachine", "db", memory="64MiB", state="stopped", xml=xml)
    project.write(web, db, pool("none"), volume)
    said = [project.plan(), project.plan("--json"), project.plan("--markdown"), project.apply()]
    project.write(web, db)
    said += [project.apply("--json"), project.plan("--json")]
    web["spec"]["kernel"]["cmdline"] = "console=ttyS0 luks=7th-secret quiet"
    db["spec"]["xml"]["./qemu:commandline/qemu:env/@value"] = "8th-secret"
    project.write(web, db)
    said += [project.plan(), project.plan("--json"), project.plan("--markdown"), project.kvmstate("drift", "--json")]
    assert "kernel.cmdline:" in str(said[-4])
    assert "qemu:env" in str(said[-4])
    for run in said:
        assert "-secret" not in str(run)
        assert "bug" not in run.err
    # what is well known is shown
    web["spec"]["kernel"]["cmdline"] = "console=ttyS0 quiet"
    project.write(web, db)
    assert "(sensitive value)" in project.plan().out
    project.apply()
    web["spec"]["kernel"]["cmdline"] = "console=ttyS0 root=/dev/vda1 quiet"
    project.write(web, db)
    assert "console=ttyS0 quiet -> console=ttyS0 root=/dev/vda1 quiet" in project.plan().out
