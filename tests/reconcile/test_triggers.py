"""What libvirt's events are taken for."""

from __future__ import annotations

import pytest

from kvmstate.host.events import Heard
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.triggers import GATHER, Hearing
from kvmstate.reconcile.workqueue import Agenda, Key, Topic

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
def agenda(clock: Clock) -> Agenda:
    return Agenda(clock)


@pytest.fixture
def hearing(agenda: Agenda) -> Hearing:
    made = Hearing(agenda, lambda: {VM, POOL, ROOT, OTHER})
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
        (Heard(secret("0"), "changed"), {Topic.RECORD}),
        (Heard(secret("0", "other"), "changed"), set()),
        (Heard(secret("lock"), "defined"), set()),
        (Heard(secret("lock"), "undefined"), {Topic.UNLOCKED}),
        (Heard(secret("leader"), "undefined"), {Topic.EVERYTHING}),
    ],
    ids=lambda value: f"{value.id} {value.what}" if isinstance(value, Heard) else "",
)
def test_where_to_look(event: Heard, asked: set[Key], clock: Clock, agenda: Agenda, hearing: Hearing) -> None:
    hearing.heard(event)
    assert agenda.take() == set()
    clock.now = GATHER
    assert agenda.take() == asked


def test_a_guest_that_keeps_stopping_by_itself_is_started_again_later_each_time(
    clock: Clock, agenda: Agenda, hearing: Hearing
) -> None:
    waits = []
    for _ in range(8):
        hearing.heard(Heard(VM, "stopped (shutdown)"))
        # whatever else is heard of it
        hearing.heard(Heard(VM, "agent"))
        begun = clock.now
        while not agenda.take():
            clock.now += 0.01
        waits.append(round(clock.now - begun))
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
