"""What a guest writes into its disk decides nothing: formats are the manifest's, the record's or the domain's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import libvirt
import pytest
from harness import Project, idle, pool, resource

pytestmark = pytest.mark.real

RAW = resource("Volume", "data", {"replace": "allow"}, pool="images", format="raw", capacity="4MiB")
WEB = idle("web", state="stopped", disks=[{"name": "data", "volume": "images/data"}])
SECRET = "/var/lib/libvirt/behaviours/hostsecret"


def forged(project: Project, *, backing: bool = True) -> bytes:
    """What a guest can write to the start of its raw disk: the header of an image over a file of the host."""
    project.path("hostsecret").write_bytes(b"secret".ljust(1 << 20, b"\0"))
    made = project.folder / "forged.qcow2"
    base = ["-b", SECRET, "-F", "raw", "-u"] if backing else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(made), "4M"], check=True)
    return made.read_bytes()


def write(project: Project, connection: libvirt.virConnect, content: bytes) -> None:
    with project.path("images/data").open("r+b") as file:
        file.write(content)
    connection.storagePoolLookupByName("images").refresh()


def shown(connection: libvirt.virConnect, name: str) -> str:
    return connection.lookupByName(name).XMLDesc()


def test_a_raw_volume_stays_raw_whatever_its_guest_writes(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), RAW, WEB)
    write(project, connection, forged(project))
    planned = project.plan()
    assert planned.code == 0, "it is neither replaced nor blocked"
    assert "was made as raw, and its content looks like qcow2 by now" in planned.out + planned.err
    project.converge(pool(), RAW, idle("web", state="stopped", memory="48MiB", disks=WEB["spec"]["disks"]))
    assert "type='raw'" in shown(connection, "web")
    connection.lookupByName("web").undefine()
    project.converge()
    assert "type='raw'" in shown(connection, "web"), "a machine that is made again is given what was recorded"
    assert "qcow2" not in shown(connection, "web")


def test_another_machine_is_given_a_raw_volume_as_raw(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), RAW)
    write(project, connection, forged(project))
    project.converge(pool(), RAW, WEB)
    assert "qcow2" not in shown(connection, "web")


def test_a_layer_over_a_raw_volume_says_raw(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), RAW)
    write(project, connection, forged(project))
    project.converge(pool(), RAW, resource("Volume", "top", pool="images", backing="images/data"))
    said = subprocess.check_output(["qemu-img", "info", "-U", str(project.path("images/top"))], text=True)
    assert "backing file format: raw" in said


def test_a_volume_that_nobody_declares_is_not_guessed(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool())
    project.path("images/data").write_bytes(forged(project, backing=False))
    connection.storagePoolLookupByName("images").refresh()
    project.write(pool(), WEB)
    applied = project.apply()
    assert applied.code == 1
    assert "nobody says the format of" in applied.out
    disk = {**WEB["spec"]["disks"][0], "format": "qcow2"}
    project.converge(pool(), idle("web", state="stopped", disks=[disk]))
    assert "type='qcow2'" in shown(connection, "web")


def test_what_a_domain_says_of_it_counts(project: Project, tmp_path: Path, connection: libvirt.virConnect) -> None:
    """Imported is what the domain has, not what the content looks like."""
    project.converge(pool(), RAW, WEB)
    write(project, connection, forged(project))
    taken = tmp_path / "taken"
    from harness import kvmstate

    imported = kvmstate("import", "domain/web", "-c", project.uri, "-o", str(taken), "--project", "shop")
    assert imported.code in (0, 1), imported
    assert "qcow2" not in "".join(path.read_text() for path in taken.rglob("*.yaml") if path.name == "web.yaml")


@pytest.mark.parametrize("kind", ["backing", "external", "vmdk"])
def test_an_image_that_names_other_files_is_not_uploaded(
    kind: str, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool())
    image = project.folder / "image"
    if kind == "backing":
        image.write_bytes(forged(project))
    elif kind == "external":
        data = f"data_file={project.folder}/data.raw,data_file_raw=on"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", data, str(image), "4M"], check=True)
    else:
        flat = ["-o", "subformat=monolithicFlat"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", *flat, str(image), "4M"], check=True)
    project.write(pool(), resource("Volume", "base", pool="images", content={"file": str(image)}))
    applied = project.apply()
    assert applied.code == 1
    said = {
        "backing": "names a backing file",
        "external": "names an external data file",
        "vmdk": "is a VMDK image, or a part of one",
    }
    assert said[kind] in applied.out
    assert not project.path("images/base").exists()
