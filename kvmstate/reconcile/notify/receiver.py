"""One receiver: a thread and a bounded queue of its own, so that one that is slow, or gone, harms nobody else."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import replace

from kvmstate.reconcile.notify.notices import Notice, NotSent, Sender

QUEUE_MAX = 100
# Seconds: in which so many are sent at most, and the same news of one thing once; and before further tries to send one,
# the last of them again and again
HOUR = 3600.0
RETRIES = (5.0, 30.0, 120.0, 600.0)
KNOWN_MAX = 1000


class Receiver:
    """`failed` is told once why nothing can be sent, and an empty string when it can be again; `count` is told sent, or
    held, for every notice."""

    def __init__(
        self,
        name: str,
        send: Sender,
        topics: Collection[str],
        per_hour: int,
        failed: Callable[[str, str], None],
        count: Callable[[str], None] = lambda result: None,
    ) -> None:
        self.name = name
        self._send, self._topics, self._per_hour = send, topics, per_hour
        self._failed, self._count = failed, count
        self._changed = threading.Condition()
        self._queue: deque[Notice] = deque()
        self._known: dict[str, tuple[str, str, float]] = {}
        self._sent: deque[float] = deque(maxlen=per_hour)
        self._held: Counter[str] = Counter()
        self._last_held: Notice | None = None
        self._closed = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="notify", daemon=True).start()

    def close(self) -> None:
        """What is queued is not sent any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def tell(self, notice: Notice) -> None:
        """From any thread; takes no time."""
        now = time.monotonic()
        with self._changed:
            reason, message, at = self._known.get(notice.about, ("", "", 0.0))
            if (reason, message) == (notice.reason, notice.message) and now - at < HOUR:
                return
            if len(self._known) > KNOWN_MAX:
                self._known = {about: known for about, known in self._known.items() if now - known[2] < HOUR}
            # of what is not asked for too: with it, what was known before has changed
            self._known[notice.about] = notice.reason, notice.message, now
            if notice.topic not in self._topics:
                return
            if len(self._queue) >= QUEUE_MAX:
                self._hold(self._queue.popleft())
            self._queue.append(notice)
            self._changed.notify()

    def _hold(self, notice: Notice) -> None:
        self._held[notice.topic] += 1
        self._last_held = notice
        self._count("held")

    def _run(self) -> None:
        while (notice := self._next()) is not None:
            self._deliver(notice)

    def _next(self) -> Notice | None:
        """The next one to be sent, when it may be; None when closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                full = len(self._sent) == self._per_hour
                wait = max(0.0, self._sent[0] + HOUR - now) if full else 0.0
                while wait and self._queue:
                    self._hold(self._queue.popleft())
                if self._queue:
                    return self._queue.popleft()
                if self._last_held and not wait:
                    return self._summary(self._last_held)
                self._changed.wait(wait or None)
        return None

    def _summary(self, last: Notice) -> Notice:
        held, self._held, self._last_held = dict(self._held), Counter(), None
        counts = ", ".join(f"{count} {topic}" for topic, count in held.items())
        about = f"{last.resource}: " if last.resource else ""
        said = f"{sum(held.values())} held back ({counts}); the last one: {about}{last.reason}: {last.message}"
        return replace(last, about="", reason="HeldBack", message=said, resource="", hint="", held_back=held)

    def _deliver(self, notice: Notice) -> None:
        tries = 0
        while True:
            try:
                self._send(notice)
            except NotSent as error:
                if not tries:
                    self._failed(self.name, str(error))
            else:
                self._sent.append(time.monotonic())
                self._count("sent")
                if tries:
                    self._failed(self.name, "")
                return
            pause = RETRIES[min(tries, len(RETRIES) - 1)]
            tries += 1
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, pause):
                    return
                # perhaps it is only this one that is not taken
                if tries > len(RETRIES) and self._queue:
                    self._hold(notice)
                    return
