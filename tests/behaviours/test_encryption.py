"""Volumes that are encrypted, with the passphrase of a Secret."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource
from lxml import etree

from kvmstate.host import volumes
from kvmstate.host.objects import Pool

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("quick_encryption")]

PHRASE = "correct-horse"
MARK = b"what nobody reads in the file"
KEY = resource("Secret", "disk-key", usage="volume", value={"from": "disk-key"})
HOW = {"secret": "disk-key"}


@pytest.fixture
def given(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "phrase").write_text(f"{PHRASE}\n")
    return (f"--secret=disk-key=file:{tmp_path / 'phrase'}",)


def raw(capacity: str, **how: Any) -> dict[str, Any]:
    said = {"pool": "images", "format": "raw", "capacity": capacity, "encryption": HOW} | how
    return resource("Volume", "raw", **said)


def clear(path: Path, format_: str, into: Path) -> bytes:
    """What a guest with the passphrase reads."""
    key = {"raw": "driver=luks,key-secret=k", "qcow2": "driver=qcow2,encrypt.format=luks,encrypt.key-secret=k"}
    words = ["qemu-img", "convert", "--object", f"secret,id=k,data={PHRASE}", "--image-opts", "-O", "raw"]
    image = f"{key[format_]},file.driver=file,file.filename={path}"
    subprocess.run([*words, image, into], capture_output=True, check=True)
    return into.read_bytes()


def disk(connection: libvirt.virConnect, target: str, flags: int = 0) -> str:
    root = etree.fromstring(connection.lookupByName("web").XMLDesc(flags))
    found = root.xpath(f"devices/disk[target/@dev='{target}']")
    return etree.tostring(found[0]).decode()


def test_a_machine_runs_on_encrypted_volumes_that_grow_and_have_snapshots(
    project: Project, connection: libvirt.virConnect, given: tuple[str, ...]
) -> None:
    """One test, as to make a volume takes seconds of work."""
    (project.folder / "image.raw").write_bytes(MARK.ljust(1 << 20, b"."))
    root = {"pool": "images", "capacity": "2MiB", "encryption": HOW, "content": {"file": "image.raw"}}

    def documents(capacity: str = "4MiB", root: dict[str, Any] = root, **spec: Any) -> list[dict[str, Any]]:
        disks = [{"name": "root", "create": root}, {"name": "data", "volume": "images/raw"}]
        return [pool(), KEY, raw(capacity), idle("web", disks=disks, **spec)]

    project.converge(*documents(), options=given)
    files = [project.path("images/raw"), project.path("images/web-root.qcow2")]
    assert files[0].read_bytes()[:6] == b"LUKS\xba\xbe"
    assert not [file for file in files if MARK in file.read_bytes()]
    for target in ("vda", "vdb"):
        assert 'usage="disk-key"' in disk(connection, target).replace("'", '"')
    # libvirt forgets with what they are encrypted
    connection.storagePoolLookupByName("images").refresh()
    assert project.plan(*given).code == 0

    project.converge(*documents("6MiB", root | {"capacity": "3MiB"}), options=given)
    data = connection.storagePoolLookupByName("images").storageVolLookupByName("raw")
    assert data.info()[1] == 6 << 20

    took = kvmstate("snapshot", "create", "web", "--name", "one", "-c", project.uri)
    assert took.code == 0, took
    assert project.plan(*given).code == 0
    connection.lookupByName("web").destroy()
    project.converge(*documents("6MiB", root | {"capacity": "3MiB"}, title="edited"), options=given)
    assert ".one.overlay" in disk(connection, "vda")
    refused = kvmstate("snapshot", "revert", "web", "one", "--auto-approve", "-c", project.uri)
    assert (refused.code, "is encrypted" in refused.err) == (1, True), refused
    merged = kvmstate("snapshot", "merge", "web", "--auto-approve", "-c", project.uri)
    assert merged.code == 0, merged
    connection.lookupByName("web").destroy()
    refused = kvmstate("snapshot", "create", "web", "--name", "two", "-c", project.uri)
    assert (refused.code, "start the machine first" in refused.err) == (1, True), refused
    # while it is off only QEMU could grow it
    project.write(*documents("8MiB", root | {"capacity": "3MiB"}, title="edited"))
    assert "blocked: it is encrypted, and grows only while a machine runs on it" in project.plan(*given).out
    project.apply(*given)
    project.converge(options=given)
    assert "overlay" not in disk(connection, "vda")
    connection.lookupByName("web").destroy()
    assert clear(files[1], "qcow2", project.folder / "clear").startswith(MARK)

    # what would lock everybody out
    Path(given[0].partition("file:")[2]).write_text("another\n")
    said = project.plan(*given)
    assert "blocked: volumes keep the passphrase that they were made with" in said.out
    for how in (None, {"secret": "other"}):
        project.write(*documents()[:2], raw("8MiB", encryption=how), resource("Secret", "other", usage="volume"))
        assert "volume/images/raw" in (said := project.plan().out)
        assert "blocked: encryption" in said, said


def test_one_that_others_made_is_taken_over_with_its_secret(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    project.converge(pool())
    secret = connection.secretDefineXML(
        "<secret ephemeral='no' private='yes'><usage type='volume'><volume>theirs</volume></usage></secret>"
    )
    secret.setValue(PHRASE.encode())
    how = "<encryption format='luks'><secret type='passphrase' usage='theirs'/></encryption>"
    images = connection.storagePoolLookupByName("images")
    text = (
        "<volume><name>theirs</name><capacity>1048576</capacity><allocation>0</allocation>"
        f"<target><format type='raw'/>{how}</target></volume>"
    )
    made = volumes.create(Pool(images), text).raw
    connection.defineXML(
        "<domain type='qemu'><name>web</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
        f"<disk type='file'><driver name='qemu' type='raw'/><source file='{made.path()}'>{how}</source>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    images.refresh()
    taken = tmp_path / "taken"
    imported = kvmstate(
        *("import", "volume/images/theirs", "domain/web", "secret/theirs"),
        *("--output", str(taken), "--project", "taken", "-c", project.uri),
    )
    assert imported.code == 0, imported
    text = "".join(path.read_text() for path in taken.rglob("*.yaml"))
    assert "encryption: {secret: theirs, usage: theirs}" in text, text
    assert PHRASE not in text
    planned = kvmstate("plan", str(taken), "-c", project.uri)
    assert planned.code == 0, planned
    assert "blocked" not in planned.out
    assert "encryption" not in planned.out, planned


def test_what_does_not_go_with_encryption_is_said(
    project: Project, connection: libvirt.virConnect, tmp_path: Path, given: tuple[str, ...]
) -> None:
    (project.folder / "luks.img").write_bytes(b"LUKS\xba\xbe".ljust(1 << 20, b"\0"))
    project.converge(pool(), KEY, options=given)
    layer = resource("Volume", "layer", pool="images", backing="images/raw")
    copy = resource("Volume", "copy", pool="images", content={"volume": "images/raw"})
    project.write(pool(), KEY, raw("1MiB"), layer, copy)
    planned = project.plan(*given)
    assert "volume images/raw is encrypted: no layer lies over it" in planned.err
    assert "volume images/raw is encrypted: libvirt does not copy it" in planned.err
    group = resource("StoragePool", "vg", type="logical", active=False, source={"name": "vg", "format": "lvm2"})
    project.write(pool(), KEY, group, raw("1MiB", pool="vg"))
    assert "only files are encrypted" in project.plan(*given).err
    project.write(
        pool(), KEY, raw("1MiB", encryption={}), raw("1MiB", content={"file": "luks.img"}) | {"metadata": {"name": "b"}}
    )
    planned = project.plan(*given)
    assert "blocked: nothing says with which passphrase" in planned.out, planned
    assert "luks.img is encrypted already" in planned.out
    hidden = resource("Secret", "hidden", usage="volume", private=True, value={"from": "disk-key"})
    (project.folder / "image.raw").write_bytes(MARK.ljust(1 << 20, b"."))
    content = {"content": {"file": "image.raw"}, "encryption": {"secret": "hidden"}}
    project.write(pool(), KEY, hidden, raw("1MiB", **content))
    applied = project.apply(*given)
    assert "libvirt does not tell the passphrase of secret hidden" in applied.err, applied
