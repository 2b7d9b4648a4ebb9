"""Overlays with data that no disk uses any more, because somebody put a disk back onto what they lie on, are never
deleted by guess: only what an approved revert took off the disks, and what was merged."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import libvirt
import pytest
from disks import DISK, MACHINE, qemu_img
from harness import until

from kvmstate.doctor.chains import snapshots
from kvmstate.errors import HostError
from kvmstate.host import domains, open_host
from kvmstate.host import snapshots as host_snapshots
from kvmstate.host.objects import Domain
from kvmstate.snapshots import chain, create, dropped, files, merge, revert

if TYPE_CHECKING:
    from disks import Machine

pytestmark = pytest.mark.real

METADATA_ONLY = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY


def diagnosed(vm: Machine) -> list[tuple[str, str]]:
    with open_host(vm.uri) as opened:
        return [(found.what, found.hint) for found in snapshots(opened) if found.severity.value == "warning"]


def put_back(vm: Machine) -> tuple[str, str]:
    """The overlay that the machine was taken from, and what it holds."""
    path = vm.file("vda")
    held = vm.digest(path)
    vm.switch(str(vm.folder / "vda.qcow2"))
    return path, held


def test_data_that_no_disk_uses_is_told_and_kept_whatever_is_done(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    path, held = put_back(vm)
    ((what, hint),) = diagnosed(vm)
    assert what == "volume chains/vda.one.overlay holds data that no disk uses: it lies on chains/vda.qcow2"
    assert hint.startswith(f"to have it back, give the disk the file {path} while vm is off (`virsh edit vm`)")
    assert hint.endswith("if nobody needs it: `virsh vol-delete --pool chains vda.one.overlay`")
    for command in (("delete", "one"), ("merge",), ("revert", "one", "--delete-children"), ("revert", "one")):
        ran = vm.snapshot(*command, "--auto-approve")
        assert vm.digest(path) == held, command
        if command[0] != "revert":
            assert ran.code == 1
            assert "volume chains/vda.one.overlay, which holds data that no disk uses, still needs" in ran.err
            assert "`virsh edit vm`" in ran.err
    vm.done("create", "--name", "two")
    assert vm.digest(path) == held
    vm.done("revert", "one", "--auto-approve")
    vm.done("delete", "two", "--auto-approve")
    assert vm.digest(path) == held
    # the way back
    vm.switch(path)
    assert not [what for what, _ in diagnosed(vm) if "holds data" in what]
    vm.done("merge", "--auto-approve")
    assert vm.contents()["vda"] == held
    assert vm.files() == {"vda.qcow2"}


def test_it_goes_when_somebody_says_that_nobody_needs_it(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    put_back(vm)
    vm.domain.connect().storagePoolLookupByName("chains").storageVolLookupByName("vda.one.overlay").delete()
    vm.done("delete", "one", "--auto-approve")
    assert vm.files() == {"vda.qcow2"}


def test_a_name_is_used_again_beside_what_holds_data(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    path, held = put_back(vm)
    vm.domain.snapshotLookupByName("one").delete(METADATA_ONLY)
    ((what, _),) = diagnosed(vm)
    assert "vda.one.overlay holds data that no disk uses" in what
    vm.done("create", "--name", "one")
    assert vm.file("vda").endswith("vda.one~2.overlay")
    assert vm.digest(path) == held


def test_a_revert_deletes_what_was_approved_and_no_more(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    path, held = vm.file("vda"), vm.digest(vm.file("vda"))
    with open_host(vm.uri) as host:
        # as if the disk had come to be on it after the question
        revert.revert(host, "vm", "one", approved=())
    assert vm.digest(path) == held
    vm.write(30, 3)
    dropped = vm.file("vda")
    vm.done("revert", "one", "--auto-approve")
    assert dropped.rpartition("/")[2] not in vm.files()
    assert vm.digest(path) == held


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_what_was_dropped_by_a_run_that_died_goes_with_the_next(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    vm = make(running=running)
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    before = vm.file("vda")

    class Killed(Exception):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, open_host(vm.uri) as host:
        patch.setattr(files, "sweep", killed)
        with pytest.raises(Killed):
            revert.revert(host, "vm", "one")
    assert vm.file("vda") != before
    assert "vda.one.overlay" in vm.files()
    ((what, _),) = diagnosed(vm)
    assert what == "volume chains/vda.one.overlay is left from a run on vm that was cut off"
    vm.done("delete", "one", "--auto-approve")
    assert vm.files() == {"vda.qcow2"}
    assert "kvmstate-dropped" not in vm.domain.XMLDesc(0) + vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def test_what_came_to_be_used_since_it_was_looked_at_stays(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    left = vm.folder / "vda.one~2.overlay"
    qemu_img("create", "-f", "qcow2", "-b", vm.folder / "vda.qcow2", "-F", "qcow2", left)
    written = vm.folder / "vda.one~3.overlay"
    qemu_img("create", "-f", "qcow2", "-b", vm.folder / "vda.qcow2", "-F", "qcow2", written)
    with open_host(vm.uri) as host:
        images, machine = chain.Images(host), chain.look(host, "vm")
        assert {image.path for image in files.leftovers(images, machine)} == {str(left), str(written)}
        disk = DISK.format(format="qcow2", path=left, target="vda")
        vm.domain.connect().defineXML(MACHINE.format(name="other", disks=disk))
        subprocess.run(["qemu-io", "-c", "write -q -P 9 512k 64k", written], check=True)
        said: list[str] = []
        files.sweep(host, images, machine, said.append)
    assert not said
    assert {left.name, written.name} <= vm.files()


@pytest.mark.parametrize("command", ["create", "revert"])
def test_disks_that_changed_meanwhile_are_left_as_they_are(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """By somebody who takes no lock, at the last moment."""
    vm = make()
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    backup = vm.folder / "backup.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", vm.file("vda"), "-F", "qcow2", backup)
    there, made = vm.files(), files.make

    def interrupted(*args: Any) -> None:
        made(*args)
        vm.switch(str(backup))

    monkeypatch.setattr(files, "make", interrupted)
    with open_host(vm.uri) as host, pytest.raises(HostError, match="meanwhile"):
        create.create(host, "vm", create.Wish("two")) if command == "create" else revert.revert(host, "vm", "one")
    assert vm.file("vda") == str(backup)
    assert [each.getName() for each in vm.domain.listAllSnapshots()] == ["one"]
    assert vm.files() - there <= {"vda.one~2.overlay"}
    monkeypatch.undo()
    vm.done("revert", "one", "--auto-approve")
    assert "vda.one.overlay" in vm.files(), "somebody else's file lies on it"


def test_what_another_machine_writes_to_is_not_kept_by_a_snapshot(make: Callable[..., Machine]) -> None:
    vm = make(disks=2)
    disk = DISK.format(format="qcow2", path=vm.file("vda"), target="vda")
    other = vm.domain.connect().defineXML(MACHINE.format(name="other", disks=disk))
    for words in ((), ("--dry-run",), ("--mode", "internal")):
        refused = vm.snapshot("create", *words)
        assert refused.code == 1
        assert "virtual machine other writes to disk vda of vm, too" in refused.err
    assert not vm.domain.listAllSnapshots()
    vm.done("create", "--name", "one", "--disk", "vdb")
    other.undefine()
    reading = disk.replace("</disk>", "<readonly/></disk>")
    vm.domain.connect().defineXML(MACHINE.format(name="other", disks=reading))
    vm.done("create", "--name", "two")


def test_a_definition_follows_what_is_there_right_before_it(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    made = files.make

    def retitled(*args: Any) -> None:
        made(*args)
        vm.domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "new", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    monkeypatch.setattr(files, "make", retitled)
    with open_host(vm.uri) as host:
        revert.revert(host, "vm", "one")
        assert "<title>new</title>" in domains.xml(Domain(vm.domain))


def test_a_snapshots_memory_is_written_over_nobodys_file(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    theirs = vm.folder / "vm.one.memory"
    theirs.write_bytes(b"of a snapshot that libvirt has forgotten" * 100)
    vm.done("create", "--name", "one", "--memory")
    assert theirs.read_bytes().startswith(b"of a snapshot")
    assert "vm.one~2.memory" in vm.files()
    vm.done("delete", "one", "--auto-approve")
    assert vm.files() == {"vda.qcow2", "vm.one.memory"}
    assert "kvmstate-dropped" not in vm.domain.XMLDesc(0) + vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def test_memory_that_could_not_be_written_is_not_left(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make(running=True)

    def full(*_: Any, **__: Any) -> None:
        (vm.folder / "vm.one.memory").write_bytes(bytes(4096))
        raise HostError("the storage is full")

    monkeypatch.setattr(host_snapshots, "create_external", full)
    refused = vm.snapshot("create", "--name", "one", "--memory")
    assert "the storage is full" in refused.err
    assert vm.files() == {"vda.qcow2"}


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_an_overlay_of_a_backup_is_left_as_it_is(make: Callable[..., Machine], running: bool) -> None:
    """One that libvirt keeps no snapshot of."""
    vm = make(running=running)
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    backup = vm.folder / "backup.qcow2"
    vm.domain.snapshotCreateXML(
        f"<domainsnapshot><disks><disk name='vda' snapshot='external'><source file='{backup}'/></disk></disks>"
        "</domainsnapshot>",
        flags,
    )
    vm.write(30, 3)
    latest = vm.contents()
    vm.done("create", "--name", "two")
    vm.done("delete", "two", "--auto-approve")
    assert vm.contents() == latest
    assert vm.file("vda") == str(backup)
    vm.done("revert", "one", "--auto-approve")
    assert vm.digest(str(backup)) == latest["vda"]
    refused = vm.snapshot("delete", "one", "--auto-approve")
    assert "volume chains/vda.one.overlay still needs" in refused.err
    assert vm.digest(str(backup)) == latest["vda"]


def test_a_merge_that_libvirt_ends_while_the_next_run_looks_leaves_nothing(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A libvirtd that was killed at the pivot says later what QEMU has done: a file that was about to be left must not
    be taken for one in use, whose note as merged goes."""
    vm = make(running=True)
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    overlay, before = vm.file("vda"), vm.contents()
    with open_host(vm.uri) as host:
        domain = domains.find(host.connection, "vm")
        host_snapshots._mark(domain, "vda", True)
        domain.raw.blockCommit("vda", None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
        until(lambda: host_snapshots._ready(domain, "vda", lambda done, whole: None), "all is merged")
        dropped.note(domain, [overlay])
    sweep = files.sweep

    def ends(*args: Any) -> None:
        sweep(*args)
        with suppress(libvirt.libvirtError):
            vm.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            until(lambda: not vm.domain.blockJobInfo("vda"), "the job has ended")

    monkeypatch.setattr(files, "sweep", ends)
    with open_host(vm.uri) as host:
        merge.delete(host, "vm", "one")
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}
