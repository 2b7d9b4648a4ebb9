"""What goes by the clock on the wall is done on time, also when that clock jumps."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kvmstate.manifest import Project
from kvmstate.manifest.reconcile import Reconcile, Window
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.desired import Desired, Source
from kvmstate.reconcile.reconciler import Reconciler
from kvmstate.reconcile.scheduler import Scheduler
from kvmstate.reconcile.status_store import ResourceStatus, State, StatusStore, Sync
from kvmstate.reconcile.workqueue import Task, WorkQueue

VM = ResourceId("domain", "vm")
NIGHTLY = Reconcile(windows=[Window(schedule="0 2 * * *", duration=3600)])


def at(hour: int, minute: int = 0, day: int = 25) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


@pytest.fixture
def status() -> StatusStore:
    return StatusStore(State(ready=True, next_window=at(2), resources={VM: ResourceStatus(VM, Sync.PENDING)}))


def scheduler(status: StatusStore, queue: WorkQueue) -> Scheduler:
    project = Project(settings=NIGHTLY)
    given = Source(lambda: project, lambda: Desired(project, ()))
    reconciler = Reconciler(given, status, queue, threading.Event())
    reconciler.project = project
    made = Scheduler(status, queue, reconciler)
    made._last = at(1)
    return made


def test_what_waits_for_a_window_is_looked_at_when_it_opens(status: StatusStore) -> None:
    queue = WorkQueue()
    days = scheduler(status, queue)
    days.run_due(at(1, 1))
    assert queue.drain() == set()
    for minute in range(2, 60):
        days.run_due(at(1, minute))
    assert queue.drain() == set()
    days.run_due(at(2, 0))
    assert queue.drain() == {VM}
    assert status.state.next_window == at(2, day=26)


@pytest.mark.parametrize("jump", [at(12), at(2, 30), at(0, 30), at(1, 30, day=20)])
def test_a_clock_that_jumps_is_reckoned_from_anew(status: StatusStore, jump: datetime) -> None:
    queue = WorkQueue()
    days = scheduler(status, queue)
    days.run_due(jump)
    assert queue.drain() == {VM}
    expected = jump.replace(hour=2, minute=0)
    assert status.state.next_window == (expected if expected > jump else expected + timedelta(days=1))


def test_windows(status: StatusStore) -> None:
    berlin = Window(schedule="30 2 * * *", duration=3600, time_zone="Europe/Berlin")
    assert [berlin.opened(at(1, m)) for m in (29, 30, 59)] == [False, True, True]
    assert [berlin.opened(at(2, m)) for m in (29, 30)] == [True, False]
    two = Reconcile(windows=[berlin, Window(schedule="0 5 * * *", duration=60)])
    assert two.may_disrupt(at(5))
    assert not two.may_disrupt(at(4))
    assert two.next_window(at(4)) == at(5)
    assert Reconcile().may_disrupt(at(4))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_thing_stands_once_on_the_agenda_and_the_earliest_time_counts() -> None:
    clock: Any = Clock()
    queue = WorkQueue(clock)
    queue.add(VM, after=5)
    queue.add(VM, after=1)
    queue.add(VM, after=3)
    queue.add(Task.EVERYTHING, after=2)
    clock.now = 1.0
    assert queue.drain() == {VM}
    assert queue.drain() == set()
    clock.now = 9.0
    assert queue.drain() == {Task.EVERYTHING}


def test_what_fails_is_done_again_later_each_time_whoever_asks() -> None:
    clock: Any = Clock()
    queue = WorkQueue(clock)
    delays = [queue.retry(VM) for _ in range(12)]
    assert all(0.9 * 2 ** (n + 1) <= d <= 1.1 * 2 ** (n + 1) for n, d in enumerate(delays[:8]))
    assert max(delays) <= 660
    queue.add(VM)
    assert queue.drain() == set()
    queue.forget(VM)
    queue.add(VM)
    assert queue.drain() == {VM}
    assert not queue.failures(VM)
