"""Every command on machines that run and that are off, with one disk and several, on raw and on qcow2 images: the
disks hold afterwards, block by block, what they shall, and every image is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from disks import Machine

pytestmark = pytest.mark.real


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
@pytest.mark.parametrize(("disks", "format_"), [(1, "raw"), (3, "qcow2")])
def test_every_command_keeps_what_it_promises(
    make: Callable[..., Machine], running: bool, disks: int, format_: str
) -> None:
    vm = make(disks, format_, running)
    points = {}
    for number, name in enumerate(("one", "two", "three"), 1):
        vm.write(10 * number, number)
        points[name] = vm.contents()
        vm.done("create", "--name", name)
        assert vm.contents() == points[name]
    vm.write(99, 5)
    latest = vm.contents()
    assert latest != points["three"]

    vm.done("delete", "two", "--auto-approve")
    assert vm.contents() == latest
    vm.done("revert", "three", "--auto-approve")
    assert vm.contents() == points["three"]
    assert bool(vm.domain.isActive()) is running
    vm.write(77, 6)
    vm.done("revert", "one", "--auto-approve")
    assert vm.contents() == points["one"]
    vm.done("revert", "three", "--auto-approve")
    assert vm.contents() == points["three"]
    vm.check()

    vm.write(88, 6)
    latest = vm.contents()
    vm.done("merge", "--auto-approve")
    assert vm.contents() == latest
    assert "No snapshots" in vm.done("list").out
    assert vm.files() == {f"{target}.{format_}" for target in vm.targets}
    vm.check()
    # and once more: what libvirt noted of the old chain does not stand in the way
    vm.done("create", "--name", "again")
    vm.done("merge", "--auto-approve")
    assert vm.contents() == latest
