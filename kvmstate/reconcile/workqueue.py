"""What is to be looked at, and when: a queue in which the same thing stands once, however often it is asked for."""

from __future__ import annotations

import enum
import random
import threading
import time
from collections.abc import Callable

from kvmstate.model.resource import ResourceId


class Task(enum.Enum):
    """What there is to do beside looking at single resources."""

    SOURCE = "fetch the manifests"
    FETCHED = "see what was fetched"
    MANIFESTS = "read the manifests"
    LISTEN = "connect to libvirt's events"
    RECORD = "see what others have recorded"
    UNLOCKED = "do what another run's lock kept from being done"
    POLICIES = "run the policies"
    EVERYTHING = "look at everything"


WorkItem = Task | ResourceId

# Seconds between the first failure of a thing and the next try, doubled with each further one up to the longest
FIRST_BACKOFF = 2.0
LONGEST_BACKOFF = 600.0
# Of all delays, so that many hosts, or many things on one, do not come at once
JITTER = 0.1


class WorkQueue:
    """Thread-safe. Times are seconds of `clock`, which must not jump. `adds` counts what was asked for, `retries` what
    failed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[WorkItem, float] = {}
        self._not_before: dict[WorkItem, float] = {}
        self._failures: dict[WorkItem, int] = {}
        self._woken = False
        self.adds = 0
        self.retries = 0

    def add(self, *keys: WorkItem, after: float = 0) -> None:
        """Do these once, in so many seconds; the earliest of several times counts, but none before a backoff ends."""
        with self._changed:
            self.adds += len(keys)
            for key in keys:
                at = max(self._clock() + after, self._not_before.get(key, 0))
                self._due[key] = min(at, self._due.get(key, at))
            self._changed.notify()

    def delay(self, key: WorkItem, after: float) -> None:
        """Do it in so many seconds, and not before, whoever asks."""
        with self._changed:
            self._due[key] = self._not_before[key] = self._clock() + after
            self._changed.notify()

    def retry(self, key: WorkItem) -> float:
        """Do it again, later than the time before. Returns in how many seconds."""
        with self._changed:
            self._failures[key] = count = self._failures.get(key, 0) + 1
            self.retries += 1
        after = jittered(min(FIRST_BACKOFF * 2 ** min(count - 1, 30), LONGEST_BACKOFF))
        self.delay(key, after)
        return after

    def forget(self, *keys: WorkItem) -> None:
        """They are as they should be, or are wanted otherwise than before: forget their failures."""
        with self._changed:
            for key in keys:
                self._failures.pop(key, None)
                self._not_before.pop(key, None)

    def failures(self, key: WorkItem) -> int:
        return self._failures.get(key, 0)

    def delayed_for(self, key: WorkItem) -> float:
        """Seconds until it may be done again; 0 when it may be now."""
        return max(0.0, self._not_before.get(key, 0) - self._clock())

    @property
    def depth(self) -> int:
        """How much is waiting to be done now."""
        now = self._clock()
        with self._changed:
            return sum(at <= now for at in self._due.values())

    def get(self, timeout: float) -> set[WorkItem]:
        """All that is due, as soon as anything is; nothing when nothing was within `timeout` seconds, or `wake` was
        called."""
        until = self._clock() + timeout
        with self._changed:
            while True:
                now = self._clock()
                if due := self._take(now):
                    return due
                if self._woken or now >= until:
                    self._woken = False
                    return set()
                self._changed.wait(min([until, *self._due.values()]) - now)

    def drain(self) -> set[WorkItem]:
        """All that is due now."""
        with self._changed:
            return self._take(self._clock())

    def _take(self, now: float) -> set[WorkItem]:
        due = {key for key, at in self._due.items() if at <= now}
        for key in due:
            del self._due[key]
        return due

    def wake(self) -> None:
        """End the wait, for whoever has changed what it is for."""
        with self._changed:
            self._woken = True
            self._changed.notify()


def jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
