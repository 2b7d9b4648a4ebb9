"""Images are qcow2 of version 3, which has bitmaps and frees what a guest discards; older ones stay as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import libvirt
import pytest
from harness import MAIN, Project, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours/images"
OLD = """
<volume><name>old.qcow2</name><capacity unit='MiB'>8</capacity>
  <target><format type='qcow2'/><permissions><mode>0600</mode></permissions></target></volume>
"""


def on_host(project: Project, *command: str) -> str:
    call = [sys.executable, "-c", MAIN, "sandbox", "exec", "--name", project.host.name, "--", *command]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout


def info(project: Project, name: str) -> Any:
    return json.loads(on_host(project, "qemu-img", "info", "-U", "--output=json", f"{FOLDER}/{name}"))


def compat(project: Project, name: str) -> str:
    return str(info(project, name)["format-specific"]["data"]["compat"])


def of_version(compat: str) -> str:
    return OLD.replace("<permissions>", f"<compat>{compat}</compat><permissions>")


def volume(name: str, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, pool="images", **({"capacity": "8MiB"} | spec))


def test_new_images_are_version_3(project: Project, connection: libvirt.virConnect) -> None:
    layer = resource("Volume", "layer.qcow2", pool="images", backing="images/base.qcow2")
    vm = idle("vm", disks=[{"name": "root", "volume": "images/layer.qcow2"}])
    project.converge(pool(), volume("base.qcow2"), volume("raw.img", format="raw"), layer, vm)
    taken = kvmstate("snapshot", "create", "vm", "--name", "one", "-c", project.uri)
    assert taken.code == 0, taken
    assert {name: compat(project, name) for name in ("base.qcow2", "layer.qcow2", "layer.one.overlay")} == {
        "base.qcow2": "1.1",
        "layer.qcow2": "1.1",
        "layer.one.overlay": "1.1",
    }
    assert project.plan().code == 0


def test_an_image_is_made_as_its_manifest_says(project: Project, connection: libvirt.virConnect) -> None:
    made: dict[str, Any] = {"clusterSize": "128KiB", "lazyRefcounts": True, "extendedL2": True}
    mine: dict[str, Any] = {"permissions": {"mode": "0640", "owner": 1, "group": 2}, "preallocation": "metadata"}
    tables = volume("tables.qcow2", **made, **mine)
    disk = {"disks": [{"name": "root", "volume": "images/tables.qcow2"}]}
    project.converge(pool(), tables, volume("old.qcow2", compat=0.1, preallocation="falloc"), idle("vm", **disk))
    told = info(project, "tables.qcow2")
    assert told["cluster-size"] == 128 << 10
    assert {name: told["format-specific"]["data"][name] for name in ("compat", "lazy-refcounts", "extended-l2")} == {
        "compat": "1.1",
        "lazy-refcounts": True,
        "extended-l2": True,
    }
    assert compat(project, "old.qcow2") == "0.10"
    assert info(project, "old.qcow2")["actual-size"] >= 8 << 20
    found = project.path("images/tables.qcow2").stat()
    assert (found.st_mode & 0o777, found.st_size > 8 << 20, found.st_blocks * 512 < 8 << 20) == (0o640, True, True)
    # libvirt has looked at it again, and somebody has changed its mode: that is no difference
    on_host(project, "chmod", "600", f"{FOLDER}/tables.qcow2")
    connection.storagePoolLookupByName("images").refresh()
    assert project.plan().code == 0
    # what is not said any more stays as it is, and what is said otherwise is not done unasked
    project.converge(pool(), volume("tables.qcow2"), volume("old.qcow2"), idle("vm", **disk))
    project.write(pool(), volume("tables.qcow2", clusterSize="64KiB"), volume("old.qcow2"), idle("vm", **disk))
    said = project.plan().out
    assert "blocked: clusterSize cannot change without deleting it and creating it again" in said
    assert told == info(project, "tables.qcow2")


def test_a_machine_with_a_checkpoint_has_snapshots(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("root.qcow2"), idle("vm", disks=[{"name": "root", "volume": "images/root.qcow2"}]))
    vm = connection.lookupByName("vm")
    disk = f"<disk name='vda' type='file'><target file='{project.folder}/vm.backup'/></disk>"
    vm.backupBegin(
        f"<domainbackup><disks>{disk}</disks></domainbackup>",
        "<domaincheckpoint><name>monday</name></domaincheckpoint>",
    )
    taken = kvmstate("snapshot", "create", "vm", "--name", "one", "-c", project.uri)
    assert taken.code == 0, taken
    vm.destroy()
    assert [each["name"] for each in info(project, "root.qcow2")["format-specific"]["data"]["bitmaps"]] == ["monday"]
    project.converge()
    assert vm.isActive()


def test_a_layer_frees_what_its_guest_discards(project: Project) -> None:
    layer = resource("Volume", "layer.qcow2", pool="images", backing="images/base.qcow2")
    project.converge(pool(), volume("base.qcow2"), layer)
    file = f"{FOLDER}/layer.qcow2"
    on_host(project, "qemu-io", "-c", "write -P 7 0 4M", file)
    written = info(project, "layer.qcow2")["actual-size"]
    on_host(project, "qemu-io", "-d", "unmap", "-c", "discard 0 4M", file)
    assert info(project, "layer.qcow2")["actual-size"] <= written - (4 << 20)


def test_an_older_image_stays_as_it_is_and_is_rebuilt_so(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool())
    connection.storagePoolLookupByName("images").createXML(of_version("0.10"))
    assert compat(project, "old.qcow2") == "0.10"
    project.write(pool(), volume("old.qcow2"))
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    project.converge(pool(), volume("old.qcow2"))
    project.converge(pool(), volume("old.qcow2", capacity="16MiB"))
    assert compat(project, "old.qcow2") == "0.10"


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_an_imported_image_is_rebuilt_in_its_version(
    version: str, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool())
    images = connection.storagePoolLookupByName("images")
    images.createXML(of_version(version))
    images.refresh()
    folder = str(project.folder.parent / "taken")
    taken = kvmstate("import", "volume/images/old.qcow2", "-c", project.uri, "-o", folder)
    assert taken.code == 0, taken
    images.storageVolLookupByName("old.qcow2").delete()
    made = kvmstate("recreate", "volume/images/old.qcow2", folder, "--auto-approve")
    assert made.code == 0, made
    # libvirt shows nothing of version 2, and newer ones make version 3 where nothing is said
    told = version == "1.1" or connection.getLibVersion() < 10_000_000
    assert compat(project, "old.qcow2") == (version if told else "1.1")
    assert kvmstate("plan", folder, "--detailed-exitcode").code == 0
