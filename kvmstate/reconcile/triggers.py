"""What libvirt's events are taken for: where to look, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from kvmstate.apply.lock import LEADER
from kvmstate.host.events import Heard
from kvmstate.host.objects import Secret
from kvmstate.host.secrets import OWN
from kvmstate.kinds import parent_of
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.workqueue import Task, WorkQueue

# Seconds in which events are gathered, as one call may make several: libvirt tells them within a millisecond or two
GATHER = 0.005
# Seconds until what was not as expected is looked at once more
AGAIN = 0.02
# A guest that stops by itself so long (seconds) after the last time is no longer one that keeps stopping
CALM = 600.0
ITS_OWN_STOPS = {"stopped (shutdown)", "stopped (crashed)", "stopped (failed)"}
# The longest (seconds) that such a one is left off
LONGEST_OFF = 300.0
# What is done when another's claim has ended; the other secrets of a project are its record
CLAIMS = {"lock": Task.UNLOCKED, LEADER: Task.EVERYTHING}


class EventRouter:
    """Says in the work queue where to look. `project` is the name of ours, `wanted` all that it is about."""

    def __init__(self, queue: WorkQueue, wanted: Callable[[], Collection[ResourceId]]) -> None:
        self.project = ""
        self._queue = queue
        self._wanted = wanted
        self._stops: dict[ResourceId, tuple[int, float]] = {}

    def on_event(self, event: Heard) -> None:
        """Called from libvirt's event thread."""
        id_ = event.id
        if id_.name.startswith(OWN) and id_.kind == Secret.type:
            usage, _, part = id_.name.rpartition(":")
            if usage == f"kvmstate:{self.project}" and (part not in CLAIMS or event.what == "undefined"):
                self._queue.add(CLAIMS.get(part, Task.RECORD), after=GATHER)
        elif inside := [wanted for wanted in self._wanted() if parent_of(wanted) == id_]:
            self._queue.add(id_, *inside, after=GATHER)
        elif event.what in ITS_OWN_STOPS:
            self._has_stopped(id_)
        elif event.what != "shutdown":
            # a guest that goes down is not looked at before it is down
            self._queue.add(id_, after=GATHER)

    def stops(self, id_: ResourceId) -> int:
        """How often its guest has stopped by itself lately."""
        return self._stops.get(id_, (0, 0.0))[0]

    def _has_stopped(self, id_: ResourceId) -> None:
        """By itself: one that goes on doing so is started again later each time, as Kubernetes backs off."""
        count, last = self._stops.get(id_, (0, 0.0))
        now = time.monotonic()
        count = count + 1 if now - last < CALM else 1
        self._stops[id_] = count, now
        if count == 1:
            self._queue.add(id_, after=GATHER)
        else:
            self._queue.delay(id_, min(10 * 2.0 ** min(count - 2, 10), LONGEST_OFF))
