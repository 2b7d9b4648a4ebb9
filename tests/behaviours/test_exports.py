"""A pool of type netfs: a folder that a server exports. mount.nfs is a stand-in here, as it needs a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from harness import Project, kvmstate, resource, wipe
from trouble import inside, programs

pytestmark = pytest.mark.real

MOUNTED_AT = "/var/lib/libvirt/behaviours/shared"
SOURCE = {"host": "192.0.2.1", "dir": "/export/shared", "format": "nfs"}
# as mount runs it, with what is exported and the mount point
NFS = """
[ "$1" = "192.0.2.1:/export/shared" ] || { echo "mount.nfs: no such export: $1" >&2; exit 32; }
exec mount -i -t tmpfs "$1" "$2\""""


@pytest.fixture
def server(project: Project) -> Iterator[Path]:
    with programs(project.host, {"mount.nfs": NFS}) as log:
        yield log
        # stopping takes them, too
        wipe(project.uri)


def pool(**more: Any) -> dict[str, Any]:
    said = {"source": SOURCE, "target": {"path": MOUNTED_AT}} | more
    return resource("StoragePool", "shared", type="netfs", **said)


def mounted(project: Project) -> bool:
    mounts = Path(f"/proc/{project.host.pid}/mounts").read_text(encoding="utf-8")
    return any(line.split()[1] == MOUNTED_AT for line in mounts.splitlines())


def test_it_is_mounted_with_its_pool_and_holds_volumes(project: Project, server: Path) -> None:
    project.converge(pool(), resource("Volume", "one", pool="shared", capacity="1MiB"))
    assert mounted(project)
    project.converge(pool(), resource("Volume", "one", pool="shared", capacity="2MiB"))
    project.converge(pool(active=False))
    assert not mounted(project)


def test_an_export_that_is_refused_is_told_and_put_right_by_the_next_apply(project: Project, server: Path) -> None:
    project.write(pool(source={**SOURCE, "dir": "/export/other"}))
    refused = project.apply()
    assert refused.code == 1
    assert "no such export: 192.0.2.1:/export/other" in refused.out + refused.err
    assert not mounted(project)
    project.converge({**pool(), "lifecycle": {"replace": "allow"}})
    assert mounted(project)


def test_one_that_exists_is_imported_with_its_fields(
    project: Project, connection: libvirt.virConnect, server: Path, tmp_path: Path
) -> None:
    inside(project.host, f"mkdir -p {MOUNTED_AT}")
    source = "<host name='192.0.2.1'/><dir path='/export/shared'/><format type='nfs'/><protocol ver='4.1'/>"
    xml = f"<name>shared</name><source>{source}</source><target><path>{MOUNTED_AT}</path></target>"
    connection.storagePoolDefineXML(f"<pool type='netfs'>{xml}</pool>").create()
    folder = tmp_path / "imported"
    imported = kvmstate("import", "pool/shared", "-c", project.uri, "-o", str(folder))
    assert imported.code == 0, imported
    spec = yaml.safe_load((folder / "pools" / "shared.yaml").read_text(encoding="utf-8"))["spec"]
    assert {name: spec[name] for name in ("type", "source", "target")} == {
        "type": "netfs",
        "source": SOURCE,
        "target": {"path": MOUNTED_AT},
    }
    assert '<protocol ver="4.1"/>' in spec["remainder"]
    planned = kvmstate("plan", str(folder), "--detailed-exitcode")
    assert planned.code == 0, planned


def test_an_older_manifest_that_has_all_in_its_remainder_goes_on(project: Project, server: Path) -> None:
    source = "<host name='192.0.2.1'/><dir path='/export/shared'/><format type='nfs'/>"
    xml = f"<pool type='netfs'><source>{source}</source><target><path>{MOUNTED_AT}</path></target></pool>"
    project.converge(resource("StoragePool", "shared", type="netfs", remainder=xml))
    project.write(pool())
    assert project.plan().code == 0
