"""Passwords reach the host and nobody's screen."""

from __future__ import annotations

import json
import zlib
from typing import Any

import libvirt
import pytest
from harness import Project, idle, pool, resource

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


def shard(connection: libvirt.virConnect) -> libvirt.virSecret:
    return next(each for each in connection.listAllSecrets() if each.usageID() == "kvmstate:shop:0")


def recorded(connection: libvirt.virConnect) -> Any:
    return json.loads(zlib.decompress(shard(connection).value(0)))


def test_a_password_that_somebody_changes_on_the_host_is_drift(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(machine(passwd="ours"))
    domain = connection.lookupByName("web")
    for theirs in ("passwd='theirs'", ""):
        text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        connection.defineXML(text.replace("passwd='ours'", theirs))
        drift = project.kvmstate("drift")
        assert (drift.code, drift.out.count("(sensitive value)")) == (2, 1), drift
        assert "(sensitive value)" in project.plan().out
        project.converge()
        assert password(connection) == "ours"


def test_a_running_machine_waits_with_its_old_password(project: Project, connection: libvirt.virConnect) -> None:
    def running(passwd: str) -> dict[str, Any]:
        return idle("web", graphics=[{"type": "vnc"}], xml={PATH: passwd})

    project.converge(running("before"))
    project.write(running("after"))
    assert project.apply().code == 0
    assert project.todo() == {"pending": 1}
    connection.lookupByName("web").destroy()
    project.converge()
    assert "pending" not in project.plan().out


def test_a_record_in_clear_is_cleaned_by_the_next_apply(project: Project, connection: libvirt.virConnect) -> None:
    """As earlier versions wrote it; with a key, and as on a host that never had one."""
    web = machine(passwd="in-clear")
    web["spec"]["kernel"] = {"path": "/boot/vmlinuz", "cmdline": "luks=in-clear"}
    for own_key in (True, False):
        project.converge(web)
        text = json.dumps(recorded(connection))
        assert "in-clear" not in text
        old = json.loads(text)
        del old["sealed"]
        old["entries"][0]["specs"] = [{**web["spec"], "memory": 64 << 20}]
        old["entries"][0]["digest"] = "0" * 32
        shard(connection).setValue(zlib.compress(json.dumps(old).encode()), 0)
        if not own_key:
            connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "kvmstate:key").undefine()
        planned = project.plan("--out", str(project.folder.parent / "plan.json"))
        assert planned.code == 0, planned
        assert project.todo() == {}
        assert "in-clear" not in (project.folder.parent / "plan.json").read_text()
        assert project.apply().code == 0
        text = json.dumps(recorded(connection))
        assert ("in-clear" in text, text.count("hmac-sha256-"), '"sealed": true' in text) == (False, 2, True)
        assert project.plan().code == 0


def test_a_lost_key_changes_nothing(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(machine(passwd="ours"))
    before = recorded(connection)["entries"][0]["specs"]
    connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "kvmstate:key").undefine()
    assert project.todo() == {}
    project.converge()
    assert recorded(connection)["entries"][0]["specs"] != before
    assert password(connection) == "ours"
    connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "kvmstate:key").setValue(b"short", 0)
    said = project.plan()
    assert (said.code, "key of kvmstate's hashes of secrets is damaged" in said.err) == (1, True), said


def test_what_qemu_says_of_its_arguments_is_not_repeated(project: Project, connection: libvirt.virConnect) -> None:
    """With and without a name that tells what it is."""
    xml = {
        "./qemu:commandline/qemu:arg[1]/@value": "-fw_cfg",
        "./qemu:commandline/qemu:arg[2]/@value": "opt-1st-secret",
    }
    web = idle("web")
    web["spec"]["xml"] = xml
    project.write(web)
    failed = project.apply()
    assert failed.code == 1, failed
    assert "QEMU did not start" in failed.out, failed
    said = [failed, project.apply("--json"), project.plan("--json")]
    xml["./qemu:commandline/qemu:arg[2]/@value"] = "opt-2nd-secret"
    project.write(web)
    said += [project.apply(), project.kvmstate("status", "--json")]
    for run in said:
        assert "-secret" not in str(run)
    assert "-fw_cfg" in failed.out


def test_what_leaves_a_remainder_goes_though_the_record_has_hashes(
    project: Project, connection: libvirt.virConnect
) -> None:
    def rest(*env: str, about: str = "first") -> dict[str, Any]:
        args = "".join(f"<qemu:env name='{name}' value='{name}-secret'/>" for name in env)
        return resource(
            "VirtualMachine",
            "web",
            memory="64MiB",
            state="stopped",
            remainder="<domain type='qemu'><os><type arch='x86_64' machine='q35'>hvm</type></os>"
            f"<description>{about}</description>"
            f"<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{args}</qemu:commandline>"
            "</domain>",
        )

    def has() -> list[str]:
        text = connection.lookupByName("web").XMLDesc()
        return [name for name in ("ONE", "TWO", "THREE") if f"'{name}' value='{name}-secret'" in text]

    project.converge(rest("ONE", "TWO"))
    assert "-secret" not in json.dumps(recorded(connection))
    # not of the project
    text = connection.lookupByName("web").XMLDesc()
    theirs = "<qemu:env name='THREE' value='THREE-secret'/></qemu:commandline>"
    connection.defineXML(text.replace("</qemu:commandline>", theirs))
    project.converge(rest("ONE", "TWO", about="other"))
    assert has() == ["ONE", "TWO", "THREE"]
    project.write(rest("TWO", about="other"))
    changed = project.plan()
    assert (changed.code, "-secret" in str(changed)) == (2, False), changed
    project.converge()
    assert has() == ["TWO", "THREE"]


def test_a_look_makes_no_key(project: Project, connection: libvirt.virConnect) -> None:
    project.write(machine(passwd="ours"))
    assert project.plan().code == 2
    assert project.kvmstate("status").code == 0
    assert connection.listAllSecrets() == []
    project.converge(resource("Network", "lan"))
    assert "kvmstate:key" not in [each.usageID() for each in connection.listAllSecrets()], "nothing is secret"
    project.converge(machine(passwd="ours"))
    assert "kvmstate:key" in [each.usageID() for each in connection.listAllSecrets()]
