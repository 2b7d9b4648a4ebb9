"""Secrets on a real host: their values come from where the command line says, and who uses one keeps it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, await_answer, await_old, kvmstate, resource

pytestmark = pytest.mark.real

CEPH = libvirt.VIR_SECRET_USAGE_TYPE_CEPH
ISCSI = libvirt.VIR_SECRET_USAGE_TYPE_ISCSI


def secret(name: str, usage: str = "ceph", lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Secret", name, lifecycle, usage=usage, **{"value": {"from": name}, **spec})


def kept(connection: libvirt.virConnect, name: str, usage: int = CEPH) -> bytes:
    return bytes(connection.secretLookupByUsage(usage, name).value())


def given(folder: Path, **values: str) -> list[str]:
    """Options that say where these values are."""
    for name, value in values.items():
        (folder / name).write_text(value)
    return [f"--secret={name}=file:{folder / name}" for name in values]


def logs_in(name: str, secret: dict[str, str], lifecycle: dict[str, Any] | None = None) -> dict[str, Any]:
    source = {
        "host": "nas.example",
        "device": "iqn.2026-01.example.nas:images",
        "auth": {"username": "kvm1", "secret": secret},
    }
    return resource(
        "StoragePool", name, lifecycle, type="iscsi", active=False, source=source, target={"path": "/dev/disk/by-path"}
    )


def test_a_value_is_set_changed_and_corrected(project: Project, connection: libvirt.virConnect, tmp_path: Path) -> None:
    options = given(tmp_path, ceph="c2VjcmV0LW9uZQ==\n", chap="secret-chap\n")
    documents = [secret("ceph", value={"from": "ceph", "encoding": "base64"}), secret("chap", "iscsi")]
    project.write(*documents)
    assert "nothing says where its value ceph is" in project.plan().out
    said = [project.converge(options=tuple(options))]
    assert (kept(connection, "ceph"), kept(connection, "chap", ISCSI)) == (b"secret-one", b"secret-chap")
    # what nobody says is as the host has it
    unsaid = project.plan()
    assert (unsaid.code, "where the host has one, it stays" in unsaid.err) == (0, True)

    given(tmp_path, chap="secret-two")
    planned = project.plan(*options)
    assert (planned.code, "(sensitive" in planned.out) == (2, True)
    said += [planned, project.plan("--json", *options), project.apply(*options)]
    assert kept(connection, "chap", ISCSI) == b"secret-two"

    connection.secretLookupByUsage(CEPH, "ceph").setValue(b"secret-by-hand")
    drift = project.kvmstate("drift")
    assert ("secret/ceph" in drift.out, "secret/chap" in drift.out) == (True, False), drift
    said += [drift, project.kvmstate("drift", "--json"), project.plan(*options), project.apply(*options)]
    assert kept(connection, "ceph") == b"secret-one"
    assert project.plan(*options).code == 0
    assert "secret/ceph" not in project.kvmstate("drift").out
    assert not [run for run in said if "secret-" in str(run) or "c2VjcmV0LW9uZQ" in str(run)]


def test_in_clear_there_is_a_warning(project: Project, connection: libvirt.virConnect) -> None:
    project.write(resource("Secret", "tls", usage="tls", value={"clear": "in-clear"}))
    applied = project.apply()
    assert (applied.code, "stands here in clear" in applied.err, "in-clear" in str(applied)) == (0, True, False)
    assert "manifests.yaml:" in applied.err
    assert kept(connection, "tls", libvirt.VIR_SECRET_USAGE_TYPE_TLS) == b"in-clear"
    assert project.plan().code == 0


def test_an_ephemeral_one_is_set_again_and_a_private_one_is_known_by_its_hash(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    options = given(tmp_path, gone="secret-gone", hidden="secret-hidden")
    project.converge(secret("gone", ephemeral=True), secret("hidden", "iscsi", private=True), options=tuple(options))
    uuid = connection.secretLookupByUsage(CEPH, "gone").UUIDString()
    with pytest.raises(libvirt.libvirtError):
        kept(connection, "hidden", ISCSI)
    given(tmp_path, hidden="secret-other")
    assert project.todo(*options) == {"update": 1}
    assert project.apply(*options).code == 0
    assert project.plan(*options).code == 0

    os.kill(await_old(project.host), signal.SIGKILL)
    await_answer(project.host)
    again = libvirt.open(project.uri)
    with pytest.raises(libvirt.libvirtError):
        again.secretLookupByUsage(CEPH, "gone")
    assert (found := project.plan(*options)).code == 2, found
    project.converge(options=tuple(options))
    assert kept(again, "gone") == b"secret-gone"
    assert again.secretLookupByUsage(CEPH, "gone").UUIDString() == uuid
    again.close()


def test_they_are_imported_by_reference_and_kvmstates_own_are_not(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    for name, private in (("open", "no"), ("closed", "yes")):
        usage = f"<usage type='ceph'><name>{name}</name></usage>"
        made = connection.secretDefineXML(f"<secret ephemeral='no' private='{private}'>{usage}</secret>")
        made.setValue(f"secret-{name}".encode())
    image = "<usage type='volume'><volume>/images/a.luks</volume></usage>"
    connection.secretDefineXML(f"<secret ephemeral='no' private='no'>{image}</secret>").setValue(b"secret-luks")
    project.converge(secret("chap", "iscsi"), options=tuple(given(tmp_path, chap="secret-chap")))
    folder = tmp_path / "taken"
    imported = kvmstate("import", "--all", "--output", str(folder), "--project", "taken", "-c", project.uri)
    # what is owned by another project stays that one's, and nobody hears of kvmstate's own
    assert (imported.code, "secret/chap" in imported.err, "kvmstate:" in str(imported)) == (1, True, False), imported
    written = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}
    assert {*written} == {
        "kvmstate.yaml",
        *(f"secrets/{name}.yaml" for name in ("open", "closed", "%252Fimages%252Fa.luks")),
    }
    assert not [text for text in (*written.values(), str(imported)) if "secret-" in text]
    assert "value: {from: open}" in written["secrets/open.yaml"]
    taken = Project(project.uri, tmp_path / "other", "other")
    options = given(tmp_path, open="secret-open", closed="secret-closed")
    planned = kvmstate("plan", "--detailed-exitcode", str(folder), "-c", project.uri)
    assert planned.code == 0, planned
    # what nobody can read is written once, and known by its hash from then on
    planned = kvmstate("plan", "--json", str(folder), "-c", project.uri, *options)
    assert [
        c["address"] for c in json.loads(planned.out)["resource_changes"] if c["change"]["actions"] == ["update"]
    ] == ["secret/closed"]
    assert kvmstate("apply", "--auto-approve", str(folder), "-c", project.uri, *options).code == 0
    assert kvmstate("plan", "--detailed-exitcode", str(folder), "-c", project.uri, *options).code == 0
    taken.write(resource("Secret", "kvmstate:shop:0", usage="ceph"))
    assert "kvmstate's own" in taken.plan().out


def test_what_is_used_is_not_deleted(project: Project, connection: libvirt.virConnect, tmp_path: Path) -> None:
    options = given(tmp_path, chap="secret-chap", ceph="secret-ceph")
    prune = ("--prune", "--allow-empty", *options)
    mine = logs_in("mine", {"secret": "chap"})
    project.converge(mine, secret("chap", "iscsi"), secret("ceph"), options=tuple(options))
    assert "usage='chap'" in connection.storagePoolLookupByName("mine").XMLDesc()
    # its own pool goes first, and with it the reason
    project.write(secret("ceph"))
    assert project.todo(*prune) == {"delete": 2}
    project.write(mine, secret("ceph"))
    assert "there is no secret/chap" in project.plan(*prune).err or "in use by" in project.plan(*prune).out

    foreign = connection.storagePoolLookupByName("mine").XMLDesc().replace("mine", "foreign")
    foreign = foreign.replace(connection.storagePoolLookupByName("mine").UUIDString(), "", 1).replace(
        "<uuid></uuid>", ""
    )
    connection.storagePoolLookupByName("mine").undefine()
    connection.storagePoolDefineXML(foreign.replace("nas.example", "other.example"))
    uuid = connection.secretLookupByUsage(CEPH, "ceph").UUIDString()
    disk = (
        f"<disk type='network'><source protocol='rbd' name='vms/root'><auth username='vms'><secret type='ceph' "
        f"uuid='{uuid}'/></auth><host name='ceph1'/></source><target dev='vda'/></disk>"
    )
    machine = connection.defineXML(
        f"<domain type='qemu'><name>web</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>"
        f"<devices>{disk}</devices></domain>"
    )
    project.write()
    planned = project.plan(*prune)
    assert "blocked: in use by storage pool foreign" in planned.out
    assert "blocked: in use by virtual machine web" in planned.out
    assert project.apply(*prune).code == 1
    assert {kept(connection, "chap", ISCSI), kept(connection, "ceph")} == {b"secret-chap", b"secret-ceph"}
    machine.undefine()
    connection.storagePoolLookupByName("foreign").undefine()
    assert project.apply(*prune).code == 0
    assert [each for each in connection.listAllSecrets() if "kvmstate:" not in each.usageID()] == []


def test_what_only_the_host_has_is_not_deleted(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(resource("Secret", "luks", usage="volume"))
    connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_VOLUME, "luks").setValue(b"the only one")
    project.write()
    planned = project.plan("--prune", "--allow-empty")
    assert "only the host has its value" in planned.out


def test_a_machine_is_given_the_password_of_a_secret(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    screen = [{"type": "vnc", "password": {"secret": "vnc"}}]
    web = resource("VirtualMachine", "web", memory="64MiB", state="stopped", graphics=screen)
    project.write(web, secret("vnc"))
    assert "without its password" in project.plan().out
    assert project.apply().code == 1
    options = given(tmp_path, vnc="one-pass\n")

    def password() -> str:
        text = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        return text.partition("passwd='")[2].partition("'")[0]

    said = [project.converge(options=tuple(options))]
    assert password() == "one-pass"
    given(tmp_path, vnc="two-pass")
    said += [project.plan(*options), project.plan("--json", *options), project.apply("--json", *options)]
    assert password() == "two-pass"
    assert project.plan(*options).code == 0
    # a change of something else keeps it
    assert project.plan().code == 0
    project.converge(
        {**web, "spec": {**web["spec"], "graphics": [{"type": "vnc"}]}}, secret("vnc"), options=tuple(options)
    )
    assert password() == ""
    assert not [run for run in said if "-pass" in str(run)]
