"""Every command on machines that run and that are off, with one disk and three, on raw and on qcow2 images, while the
guest writes block after block: images hold exactly what they shall, and are whole. KVMSTATE_TEST_TREE has the whole
table once more for another libvirt."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from disks import qemu_img
from harness import Guest, Project, wipe

from kvmstate.sandbox import Sandbox

if TYPE_CHECKING:
    from writing import Writing

pytestmark = pytest.mark.real

CASES = list(product(["running", "off"], [1, 3], ["raw", "qcow2"]))


@pytest.fixture(scope="module", params=CASES, ids=["-".join(map(str, case)) for case in CASES])
def shared(request: Any, host: Sandbox, guest: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writing]:
    """Guests take seconds to boot: one for all commands."""
    from writing import Writing

    folder = tmp_path_factory.mktemp("table")
    (folder / "chains").mkdir()
    tiny = Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, folder / "console.log")
    state, disks, format_ = request.param
    try:
        yield Writing(Project(host, folder / "shop"), folder / "chains", tiny, disks, format_, state == "running")
    finally:
        wipe(host.uri)


@pytest.fixture
def vm(shared: Writing) -> Writing:
    """As new: without snapshots. Only what a test before has left otherwise is created again."""
    if not shared.is_as_built():
        shared.build()
    return shared


def test_create_keeps_what_was_written_at_one_moment(vm: Writing) -> None:
    one = vm.take("one")
    vm.more()
    two = vm.take("two")
    vm.more()
    assert two.last >= one.last + 5
    assert (vm.held("one"), vm.held("two")) == (one, two)
    assert vm.now().last >= two.last + 5
    vm.merged()


def test_delete_leaves_the_state_and_other_snapshots_as_they_are(vm: Writing) -> None:
    one = vm.take("one")
    vm.more()
    vm.take("two")
    vm.more()
    three = vm.take("three")
    vm.more()
    vm.done("delete", "two", "--auto-approve")
    assert (vm.held("one"), vm.held("three")) == (one, three)
    assert vm.now().last >= three.last + 5
    vm.done("delete", "three", "--auto-approve")
    assert vm.held("one") == one
    vm.merged()


def test_merge_leaves_the_state_and_the_snapshots_to_keep_as_they_are(vm: Writing) -> None:
    for name in ("one", "two", "three"):
        taken = vm.take(name)
        vm.more()
    vm.done("merge", "--keep", "1", "--auto-approve")
    assert vm.held("three") == taken
    vm.more()
    vm.merged()


def test_run_takes_and_deletes_as_by_hand(vm: Writing) -> None:
    def run(day: int) -> str:
        with vm.a_moment() as moment:
            ran = vm.project.kvmstate("snapshot run", "--at", f"2026-05-0{day}T12:00")
        assert ran.code == 0, ran
        moment.of(f"nightly-2026050{day}T120000Z")
        vm.more()
        return ran.out

    assert "1 created, 0 deleted" in run(1)
    assert "1 created, 1 deleted" in run(2)
    vm.merged()


def test_revert_brings_back_exactly_what_a_snapshot_holds(vm: Writing) -> None:
    points = {}
    for name in ("one", "two"):
        points[name] = vm.take(name)
        vm.more()
    # each has the guest boot again, which takes seconds
    for name in ("two",) if vm.running else ("one", "two"):
        before = vm.boot()
        vm.done("revert", name, "--auto-approve")
        boot, last = vm.went_on(before)
        assert last == points[name].last
        assert vm.running or vm.now() == points[name]
        vm.more()
        for target, blocks in vm.now().blocks.items():
            assert blocks[:last] == points[name].blocks[target][:last]
            assert set(blocks[last:]) == {boot}, "what was written after the snapshot is still there"
        assert {name: vm.held(name) for name in points} == points
    vm.merged()


def test_flatten_copies_what_lies_below_and_leaves_it_as_it_is(vm: Writing) -> None:
    below = vm.take("one")
    files = vm.held_files("one")
    vm.forget("one")
    vm.more()
    vm.done("flatten")
    vm.more()
    assert vm.now().last >= below.last + 10
    assert vm.content(files) == below
    for path in vm.files().values():
        assert "backing file:" not in qemu_img("info", "-U", path)
