"""The guest writes all the time: what it had written when a snapshot was taken is in the snapshot, in order and without
gaps, and a merge or a flatten under it loses none of its writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import libvirt
import libvirt_qemu
import pytest
from disks import qemu_img
from harness import until

if TYPE_CHECKING:
    from disks import Machine

pytestmark = pytest.mark.real

BLOCK = 4096
FIRST = 64
LAST = 1900


class Writer:
    """Numbers block after block of a running machine's first disk, through the device that the guest has."""

    def __init__(self, vm: Machine) -> None:
        self.done = FIRST
        self._vm = vm
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def at_work(self) -> Iterator[Writer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def more(self) -> int:
        """Some more has been written; how many blocks there are now."""
        before = self.done
        until(lambda: self.done > before + 5, "the writer goes on")
        return self.done

    def _run(self) -> None:
        connection = libvirt.open(self._vm.uri)
        domain = connection.lookupByName("vm")
        while not self._stop.is_set() and self.done < LAST:
            command = f"write -q -P {self.done % 251 + 1} {self.done * BLOCK} {BLOCK}"
            device = "/machine/peripheral/virtio-disk0/virtio-backend"
            flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
            assert libvirt_qemu.qemuMonitorCommand(domain, f'qemu-io -d {device} "{command}"', flags) == ""
            self.done += 1
        connection.close()


def written(vm: Machine, path: str) -> int:
    """How many blocks there are, none of them missing or different, and nothing after them."""
    out = vm.folder.parent / "blocks.raw"
    qemu_img("convert", "-U", "-f", "raw" if path.endswith(".raw") else "qcow2", "-O", "raw", path, out)
    content = out.read_bytes()
    number = FIRST
    while content[number * BLOCK : (number + 1) * BLOCK] == bytes([number % 251 + 1]) * BLOCK:
        number += 1
    assert not any(content[number * BLOCK :])
    return number


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_snapshots_and_merges_lose_none_of_its_writes(make: Callable[..., Machine], format_: str) -> None:
    vm = make(format_=format_, running=True)
    with Writer(vm).at_work() as writer:
        before = writer.more()
        base = vm.file("vda")
        vm.done("create", "--name", "one")
        point = written(vm, base)
        assert before <= point <= writer.more()
        vm.done("create", "--name", "two")
        writer.more()
        vm.done("delete", "one", "--auto-approve")
        writer.more()
        assert written(vm, base) > point
        vm.done("merge", "--auto-approve")
        writer.more()
    assert vm.file("vda") == base
    vm.domain.destroy()
    assert written(vm, base) == writer.done
    vm.check()


def test_a_clone_is_flattened_under_its_guest(make: Callable[..., Machine]) -> None:
    vm = make()
    base = vm.file("vda")
    vm.clone()
    vm.domain.create()
    with Writer(vm).at_work() as writer:
        writer.more()
        vm.done("flatten")
        writer.more()
    vm.domain.destroy()
    assert written(vm, vm.file("vda")) == writer.done
    assert written(vm, base) == FIRST
