"""A revert that is cut off is found and finished, and what a revert shall bring back or drop it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libvirt
import pytest
from disks import DISK, qemu_img
from flaky import Flaky, Fuse, Killed

from kvmstate.doctor.chains import snapshots
from kvmstate.host import Host, open_host
from kvmstate.snapshots.revert import revert

if TYPE_CHECKING:
    from disks import Machine

pytestmark = pytest.mark.real


def killed_at(vm: Machine, change: int, *args: Any, **given: Any) -> bool:
    """A revert to `one` that dies right before the change number so many; whether it came to that."""
    connection = libvirt.open(vm.uri)
    try:
        revert(Host(Flaky(connection, Fuse(change)), vm.uri), "vm", "one", *args, **given)
    except Killed:
        return True
    finally:
        connection.close()
    return False


def diagnosed(vm: Machine) -> list[str]:
    with open_host(vm.uri) as opened:
        return [found.what for found in snapshots(opened) if found.severity.value == "warning"]


def test_a_revert_that_dies_anywhere_is_found_and_finished(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    vm.write(10, 1)
    vm.done("create", "--name", "one")
    before = vm.contents()
    vm.write(20, 2)
    found_off = 0
    for change in range(1, 99):
        killed = killed_at(vm, change)
        if not killed:
            break
        if not vm.domain.isActive():
            found_off += 1
            said = "a revert of virtual machine vm to snapshot one was cut off, and has left it off"
            assert said in diagnosed(vm)
            for command in (("create",), ("delete", "one", "--auto-approve")) if found_off == 1 else ():
                refused = vm.snapshot(*command)
                assert refused.code == 1
                assert said in refused.err
                assert "`kvmstate snapshot revert vm one` finishes it; `virsh start vm` gives it up" in refused.err
        vm.done("revert", "one", "--auto-approve")
        assert vm.domain.isActive()
        assert vm.contents() == before
        assert "kvmstate-revert" not in vm.domain.XMLDesc() + vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        vm.write(20, 2)
    assert found_off >= 3, "between stop, define, the snapshot's metadata and start"
    assert vm.domain.isActive()


def test_a_cut_off_revert_is_given_up_by_a_start(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    before = vm.contents()
    change = next(n for n in range(1, 99) if killed_at(vm, n) and not vm.domain.isActive())
    assert change > 1
    vm.domain.create()
    assert not any("cut off, and has left it off" in line for line in diagnosed(vm))
    vm.done("create", "--name", "two")
    assert vm.contents() == before


def test_the_configuration_comes_back_where_that_is_asked_for(make: Callable[..., Machine]) -> None:
    vm = make(disks=2)
    vm.done("create", "--name", "one")
    before = vm.contents()
    vm.write(20, 2)
    text = vm.domain.XMLDesc(0)
    second = DISK.format(format="qcow2", path=vm.file("vdb"), target="vdb")
    vm.domain.detachDeviceFlags(second, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    vm.domain.setMemoryFlags(16 << 10, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    refused = vm.snapshot("revert", "one", "--auto-approve")
    assert refused.code == 1
    assert "has no disk vdb any more" in refused.err
    assert "(--configuration)" in refused.err
    planned = vm.done("revert", "one", "--configuration", "--dry-run").out
    assert "- disk vdb  (configuration changed since the snapshot; it will be as it was then)" in planned
    vm.done("revert", "one", "--configuration", "--auto-approve")
    assert vm.contents() == before
    assert "unit='KiB'>32768</currentMemory>" in vm.domain.XMLDesc(0)
    # libvirt leaves the element where a note of the revert was
    assert vm.domain.XMLDesc(0).replace("~2", "").replace("  <metadata/>\n", "") == text


def test_what_was_written_is_kept_as_a_snapshot_where_that_is_asked_for(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    vm.done("create", "--name", "one")
    before = vm.contents()
    vm.write(20, 2)
    written = vm.contents()
    change = 0
    while killed_at(vm, change := change + 1, keep="written"):
        assert change < 99
    assert vm.contents() == before
    vm.done("revert", "written", "--auto-approve")
    assert vm.contents() == written
    vm.check()
    vm.done("delete", "written", "one", "--auto-approve")
    assert vm.contents() == written
    assert vm.files() == {"vda.qcow2"}


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_children_go_where_that_is_asked_for_and_only_ours(make: Callable[..., Machine], running: bool) -> None:
    vm = make(running=running)
    vm.done("create", "--name", "one")
    before = vm.contents()
    for number, name in enumerate(("two", "three"), 2):
        vm.write(10 * number, number)
        vm.done("create", "--name", name)
    vm.write(40, 4)
    others = vm.folder / "others.qcow2"
    vm.domain.snapshotCreateXML(
        f"<domainsnapshot><name>others</name><disks><disk name='vda' snapshot='external'><source file='{others}'/>"
        "</disk></disks></domainsnapshot>",
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY,
    )
    asked = ("revert", "one", "--delete-children")
    latest = vm.contents()
    refused = vm.snapshot(*asked, "--auto-approve")
    assert refused.code == 1
    assert "snapshot others of virtual machine vm was not taken by kvmstate" in refused.err
    assert "`kvmstate snapshot delete vm others` first" in refused.err
    assert vm.contents() == latest
    vm.done("delete", "others", "--auto-approve")
    qemu_img("create", "-f", "qcow2", "-b", vm.folder / "vda.one.overlay", "-F", "qcow2", vm.folder / "clone.qcow2")
    refused = vm.snapshot(*asked, "--auto-approve")
    assert refused.code == 1
    assert "volume chains/clone.qcow2 still needs" in refused.err
    assert vm.contents() == latest
    (vm.folder / "clone.qcow2").unlink()
    planned = vm.done(*asked, "--dry-run").out
    assert [line.split()[2] for line in planned.splitlines() if "alone holds" in line] == ["three", "two"]
    assert vm.contents() == latest
    vm.done(*asked, "--auto-approve")
    assert vm.contents() == before
    assert [found.getName() for found in vm.domain.listAllSnapshots()] == ["one"]
    assert len(vm.files()) == 2
    vm.check()
    vm.done("merge", "--auto-approve")
    assert vm.contents() == before
