"""What a host or a server offers is printed as manifests that are ready to be applied."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from harness import Project, kvmstate, wipe
from trouble import inside, programs

pytestmark = pytest.mark.real

# as nfs-common's and open-iscsi's answer
PROGRAMS = {
    "showmount": "echo '/export/images *'; echo '/export/backup 192.0.2.0/24'",
    "iscsiadm": "echo '192.0.2.1:3260,1 iqn.2026-01.example.nas:images'",
}


@pytest.fixture
def group(project: Project) -> Iterator[str]:
    """A volume group on a loop device."""
    if not shutil.which("vgcreate"):
        pytest.skip("LVM is not here")
    image = project.host.directory / "discover.img"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    found = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if found.returncode:
        image.unlink()
        pytest.skip(f"no loop device: {found.stderr.strip()}")
    device = found.stdout.strip()
    inside(project.host, f"vgcreate kvmdiscover {device}")
    yield "kvmdiscover"
    wipe(project.uri)
    inside(project.host, f"vgremove -f kvmdiscover; pvremove -f {device}")
    subprocess.run(["losetup", "--detach", device], check=True)
    image.unlink()


def test_a_volume_group_is_offered_until_it_is_a_pool(project: Project, group: str, tmp_path: Path) -> None:
    found = kvmstate("discover", "pools", "-c", project.uri)
    assert found.code == 0, found
    mine = [each for each in yaml.safe_load_all(found.out) if each["metadata"]["name"] == group]
    assert [each["spec"] for each in mine] == [{"type": "logical", "source": {"name": group, "format": "lvm2"}}], found
    project.converge(*mine)
    assert group not in kvmstate("discover", "pools", "--type", "logical", "-c", project.uri).out
    # what libvirt cannot look for, and nobody here, is told
    refused = kvmstate("discover", "pools", "--type", "zfs", "-c", project.uri, "--json")
    assert refused.code == 1
    assert [each["error"].split(":")[0] for each in json.loads(refused.out)["errors"]] == ["pools of type zfs"]
    assert "--server HOST" in kvmstate("discover", "pools", "--type", "netfs", "-c", project.uri).err


def test_what_a_server_exports_is_offered(project: Project) -> None:
    with programs(project.host, PROGRAMS):
        found = kvmstate("discover", "pools", "--server", "192.0.2.1", "--json", "-c", project.uri)
        wipe(project.uri)
    made = {each["metadata"]["name"]: each["spec"] for each in json.loads(found.out)["manifests"]}
    assert made["backup"]["source"] | {"format": ""} == {"host": "192.0.2.1", "dir": "/export/backup", "format": ""}
    assert made["backup"]["target"] == {"path": "/srv/backup"}
    kinds = sorted(spec["type"] for spec in made.values())
    assert kinds[-2:] == ["netfs", "netfs"], found
    (project.folder / "manifests.yaml").write_text(
        "---\n".join(yaml.safe_dump(each) for each in json.loads(found.out)["manifests"])
    )
    assert project.kvmstate("validate").code == 0


def test_zpools_are_asked_of_the_host_itself(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "bin").mkdir()
    (zpool := folder / "zpool").write_text('#!/bin/sh\n[ "$*" = "list -H -o name" ] && printf "tank\\nfast\\n"\n')
    zpool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    found = kvmstate("discover", "pools", "--type", "zfs", "-c", project.uri)
    assert found.code == 0, found
    made = {each["metadata"]["name"]: each["spec"] for each in yaml.safe_load_all(found.out)}
    assert made == {name: {"type": "zfs", "source": {"name": name}} for name in ("tank", "fast")}
    zpool.write_text("#!/bin/sh\necho permission denied >&2; exit 1\n")
    assert "zpool list: permission denied" in kvmstate("discover", "pools", "--type", "zfs", "-c", project.uri).err
