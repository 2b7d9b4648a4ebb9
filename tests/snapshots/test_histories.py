"""Random histories of snapshots, any of whose operations may be killed before or after any of its calls: the disks
hold at every moment exactly what they shall, and the same command finishes what was cut off.

More of it: KVMSTATE_STEPS=1000 pytest tests/snapshots/test_histories.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest
from disks import Machine, make
from flaky import Flaky, Fuse, Killed
from harness import until
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host
from kvmstate.sandbox import Sandbox
from kvmstate.snapshots import chain, create, merge, revert

pytestmark = pytest.mark.real

STEPS = int(os.environ.get("KVMSTATE_STEPS", "25"))
# most operations are let finish; others die at one of their first calls, before or after it is made
fuses = st.one_of(st.none(), st.tuples(st.integers(1, 9), st.booleans()))


class Histories(RuleBasedStateMachine):
    uri: str
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.connection = libvirt.open(self.uri)
        self.points: dict[str, dict[str, str]] = {}

    @initialize(disks=st.sampled_from([1, 2]), format_=st.sampled_from(["raw", "qcow2"]))
    def begin(self, disks: int, format_: str) -> None:
        self.vm: Machine = make(self.connection, self.uri, self.folder, disks, format_)
        self.originals = {f"{target}.{format_}" for target in self.vm.targets}

    # one rule: with several Hypothesis would leave out some of them in most histories
    @rule(
        what=st.sampled_from(["write", "power", "create", "create", "revert", "delete", "merge"]),
        number=st.integers(0, 200),
        fuse=fuses,
    )
    def step(self, what: str, number: int, fuse: Any) -> None:
        if what in ("revert", "delete") and not self.points:
            what = "create"
        getattr(self, what)(number, fuse)

    def write(self, number: int, fuse: Any) -> None:
        self.vm.write(number + 1, 1 + number % 7)

    def power(self, number: int, fuse: Any) -> None:
        if self.vm.domain.isActive():
            self.vm.domain.destroy()
        else:
            self.vm.domain.create()

    def create(self, number: int, fuse: Any) -> None:
        name = f"s{number % 6}"
        if name in self.points:
            return
        before = self.vm.contents()
        self.carry_out(
            lambda host: create.create(host, "vm", create.Wish(name)), fuse, lambda: name not in self.names()
        )
        self.points[name] = before
        assert self.vm.contents() == before

    def revert(self, number: int, fuse: Any) -> None:
        name = sorted(self.points)[number % len(self.points)]
        was_running = self.vm.domain.isActive()
        killed = self.carry_out(lambda host: revert.revert(host, "vm", name), fuse)
        assert self.vm.contents() == self.points[name]
        assert killed or self.vm.domain.isActive() == was_running

    def delete(self, number: int, fuse: Any) -> None:
        name = sorted(self.points)[number % len(self.points)]
        before = self.vm.contents()
        point = self.points.pop(name)
        try:
            self.carry_out(lambda host: merge.delete(host, "vm", name), fuse, lambda: name in self.names())
        except HostError as error:
            if "still needs" not in error.message:
                raise
            self.points[name] = point
        assert self.vm.contents() == before

    def merge(self, number: int, fuse: Any) -> None:
        before = self.vm.contents()
        host = Host(self.connection, self.uri)
        going = merge.surplus(chain.look(host, "vm"), keep=number % 3)
        points = {name: self.points.pop(name) for name in going}
        try:
            self.carry_out(lambda host: merge.merge(host, "vm", number % 3), fuse)
        except HostError as error:
            if "still needs" not in error.message:
                raise
            self.points |= {name: point for name, point in points.items() if name in self.names()}
        assert self.vm.contents() == before

    def carry_out(self, call: Callable[[Any], object], fuse: Any, again: Callable[[], bool] = lambda: True) -> bool:
        """Do it, and when it is killed, do it once more unless it was done. Whether it was killed."""
        active = self.vm.domain.isActive()
        connection = libvirt.open(self.uri)
        try:
            call(Host(Flaky(connection, Fuse(*fuse)) if fuse else connection, self.uri))
            return False
        except Killed:
            pass
        finally:
            connection.close()
        if not active:
            # libvirt ends what the dead run has started; a revert starts nothing then
            until(lambda: not self.vm.domain.isActive(), "the QEMU of a dead run has ended")
        self.unharmed()
        if again():
            call(Host(self.connection, self.uri))
        return True

    def names(self) -> set[str]:
        return {snapshot.getName() for snapshot in self.vm.domain.listAllSnapshots()}

    def unharmed(self) -> None:
        """Every snapshot still has what it had."""
        host = Host(self.connection, self.uri)
        machine = chain.look(host, "vm")
        for snapshot in machine.snapshots:
            for target, path in snapshot.frozen.items():
                if snapshot.name in self.points and Path(path).exists():
                    assert self.vm.digest(path) == self.points[snapshot.name][target], (snapshot.name, path)

    def teardown(self) -> None:
        if hasattr(self, "vm"):
            self.end()
        self.connection.close()

    def end(self) -> None:
        """Whatever it was, in the end all can be merged, and nothing is left over."""
        host = Host(self.connection, self.uri)
        try:
            self.unharmed()
            assert self.names() == set(self.points)
            before = self.vm.contents()
            while machine := chain.look(host, "vm"):
                if not machine.snapshots:
                    break
                # leaves of other branches first
                for name in reversed([snapshot.name for snapshot in machine.snapshots]):
                    with suppress(HostError, NotFound):
                        merge.delete(host, "vm", name)
                left = len(chain.look(host, "vm").snapshots)
                assert left < len(machine.snapshots), "what is left cannot be deleted"
            assert self.vm.contents() == before
            self.vm.check()
            assert self.vm.files() == self.originals
        finally:
            if self.vm.domain.isActive():
                self.vm.domain.destroy()
            self.vm.domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
            for path in self.folder.iterdir():
                path.unlink()


def test_no_history_loses_a_byte(host: Sandbox, folder: Path) -> None:
    Histories.uri, Histories.folder = host.uri, folder
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Histories,
        settings=settings(
            max_examples=max(1, STEPS // 12),
            stateful_step_count=12,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
