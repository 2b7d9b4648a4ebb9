"""What libvirt's events are taken for."""

from __future__ import annotations

import pytest

from kvmstate.host.events import Heard
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.triggers import GATHER, EventRouter
from kvmstate.reconcile.workqueue import Task, WorkItem, WorkQueue

VM, POOL = ResourceId("domain", "vm"), ResourceId("pool", "images")
ROOT, OTHER = ResourceId("volume", "images/root"), ResourceId("volume", "other/root")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock)


@pytest.fixture
def router(queue: WorkQueue) -> EventRouter:
    made = EventRouter(queue, lambda: {VM, POOL, ROOT, OTHER})
    made.project = "shop"
    return made


def secret(part: str, project: str = "shop") -> ResourceId:
    return ResourceId("secret", f"kvmstate:{project}:{part}")


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        (Heard(VM, "defined"), {VM}),
        (Heard(VM, "stopped (destroyed)"), {VM}),
        # it is not down yet: another event comes when it is
        (Heard(VM, "shutdown"), set()),
        # volumes have no events of their own
        (Heard(POOL, "refreshed"), {POOL, ROOT}),
        (Heard(secret("0"), "changed"), {Task.RECORD}),
        (Heard(secret("0", "other"), "changed"), set()),
        (Heard(secret("lock"), "defined"), set()),
        (Heard(secret("lock"), "undefined"), {Task.UNLOCKED}),
        (Heard(secret("leader"), "undefined"), {Task.EVERYTHING}),
    ],
    ids=lambda value: f"{value.id} {value.what}" if isinstance(value, Heard) else "",
)
def test_where_to_look(event: Heard, asked: set[WorkItem], clock: Clock, queue: WorkQueue, router: EventRouter) -> None:
    router.on_event(event)
    assert queue.drain() == set()
    clock.now = GATHER
    assert queue.drain() == asked


def test_a_guest_that_keeps_stopping_by_itself_is_started_again_later_each_time(
    clock: Clock, queue: WorkQueue, router: EventRouter
) -> None:
    waits = []
    for _ in range(8):
        router.on_event(Heard(VM, "stopped (shutdown)"))
        # whatever else is heard of it
        router.on_event(Heard(VM, "agent"))
        begun = clock.now
        while not queue.drain():
            clock.now += 0.01
        waits.append(round(clock.now - begun))
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
