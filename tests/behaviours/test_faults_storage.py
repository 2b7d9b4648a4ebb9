"""Full disks, files that go or may not be opened: a clear error, and the next apply converges."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import libvirt
import pytest
from harness import Guest, Project, pool, resource
from trouble import guests_run_as_nobody, inside, small_disk, stalling_download, until_it_may_die, wait_for_daemon

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours/images"


def test_a_disk_that_fills_up_while_uploading(project: Project, tmp_path: Path) -> None:
    image = os.urandom(3 << 20)
    (tmp_path / "base.img").write_bytes(image)
    project.write(
        pool(), resource("Volume", "base", pool="images", format="raw", content={"file": str(tmp_path / "base.img")})
    )
    with small_disk(project.host, FOLDER, "4m"):
        inside(project.host, f"head -c 2M /dev/urandom >{FOLDER}/in-the-way")
        until_it_may_die(project.host)
        assert project.start_apply().wait(30) == 1
        said = project.log.read_text()
        assert "error: volume/images/base:" in said
        # libvirt 9.0 does not always say that itself, and the daemon of 11.3 may crash
        reasons = ("No space left on device", "the storage is full", "the connection to the host was lost")
        assert any(reason in said for reason in reasons)
        assert "then apply again" in said
        wait_for_daemon(project.host)
        planned = project.plan()
        assert planned.code == 2
        assert "volume/images/base" in planned.out
        inside(project.host, f"rm {FOLDER}/in-the-way")
        project.converge()
        inside(project.host, f"test $(stat -c %s {FOLDER}/base) = {len(image)}")
        inside(project.host, f"cmp {FOLDER}/base {tmp_path}/base.img")
        libvirt.open(project.host.uri).storagePoolLookupByName("images").destroy()


def test_a_volume_that_goes_while_an_apply_runs_is_missed_and_made_again_when_asked(
    project: Project, tiny: Guest
) -> None:
    kept = resource("Volume", "kept", pool="images", capacity="4MiB")
    disks = [{"name": "root", "volume": "images/kept"}, {"name": "data", "volume": "images/base"}]
    project.converge(pool(), kept)
    with stalling_download() as download:
        project.write(pool(), kept, download.volume(), tiny.machine("web", disks=disks))
        applying = project.start_apply()
        assert download.halfway.wait(30)
        project.path("images/kept").unlink()
        download.goes_on.set()
        assert applying.wait(30) == 1
        said = project.log.read_text()
        assert "error: domain/web: Storage volume not found: no storage vol with matching name 'kept'" in said
        assert "hint: volume kept no longer exists on the host meanwhile: apply again" in said
        assert project.kvmstate("recreate", "volume/images/kept", "--auto-approve").code == 0
        project.converge()


def test_a_machine_whose_start_failed_is_started_by_the_next_apply(
    project: Project, tiny: Guest, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    machine = tiny.machine("web")
    machine["spec"]["kernel"]["path"] = str(tmp_path / "vmlinuz")
    project.write(machine)
    applied = project.apply()
    assert applied.code == 1
    assert f"QEMU did not start: could not open kernel file '{tmp_path}/vmlinuz': No such file" in applied.out
    assert "hint: the path is one of the host's" in applied.out
    assert not connection.lookupByName("web").isActive()
    shutil.copy(tiny.kernel["path"], tmp_path / "vmlinuz")
    project.converge()
    assert connection.lookupByName("web").isActive()


def test_a_denied_image_names_the_folder_that_is_in_the_way(project: Project, tiny: Guest, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "vmlinuz").write_bytes(b"")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    machine = tiny.machine("web")
    machine["spec"]["kernel"]["path"] = str(closed / "vmlinuz")
    project.write(machine)
    with guests_run_as_nobody(project.host):
        applied = project.apply()
    assert applied.code == 1
    assert "Permission denied" in applied.out
    assert f"QEMU's user nobody may not go through the folder {closed} (owner root, mode 0700)" in applied.out
    assert f"`chmod o+x {closed}`" in applied.out
