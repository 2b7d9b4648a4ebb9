"""What is answered. Nothing here talks to libvirt: what is asked often costs the host nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.journal import Journal, select
from kvmstate.reconcile.metrics import CONTENT_TYPE, Metrics
from kvmstate.reconcile.status_store import KEPT_EVENTS, StatusStore
from kvmstate.reconcile.workqueue import Task, WorkQueue
from kvmstate.web.answer import Answer, Request, as_json, text
from kvmstate.web.status import status, why_not_ready

# Probes reveal nothing, and what asks for them has no tokens
OPEN = frozenset({"/healthz", "/readyz"})
# Seconds that a client may wait for events at most, and how many may at once
WAIT_MAX = 60.0
MOST_WAITING = 8
FORMAT_VERSION = "1.0"


@dataclass
class Pages:
    """`alive` says whether the loop gives signs of life; `refresh` is what brings the newest manifests."""

    status: StatusStore
    journal: Journal
    metrics: Metrics
    queue: WorkQueue
    alive: Callable[[], bool]
    refresh: Task = Task.MANIFESTS
    _waiting: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MOST_WAITING))

    def __call__(self, request: Request) -> Answer:
        """Raises ValueError for what a query says wrong."""
        gets = {
            "/": self._index,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": lambda _: Answer(self.metrics.text(), type=CONTENT_TYPE),
            "/status": self._status,
            "/events": self._events,
        }
        posts = {"/reconcile": self._reconcile}
        page = (posts if request.method == "POST" else gets).get(request.path)
        if page:
            return page(request)
        if request.path in gets or request.path in posts:
            allowed = "GET, HEAD" if request.path in gets else "POST"
            return text(f"only {allowed}", HTTPStatus.METHOD_NOT_ALLOWED, Allow=allowed)
        return text("there is no such page; / lists them", HTTPStatus.NOT_FOUND)

    def _index(self, request: Request) -> Answer:
        return text(
            "GET /healthz /readyz /metrics /status?resource=ADDRESS /events?since=ID|TIME&wait=SECONDS, POST /reconcile"
        )

    def _healthz(self, request: Request) -> Answer:
        return text("ok") if self.alive() else text("no sign of life", HTTPStatus.SERVICE_UNAVAILABLE)

    def _readyz(self, request: Request) -> Answer:
        if why := why_not_ready(self.status.state):
            return text(f"not ready: {', '.join(why)}", HTTPStatus.SERVICE_UNAVAILABLE)
        return text("ok")

    def _status(self, request: Request) -> Answer:
        """Of all resources in short, or of one in full."""
        address = request.query.get("resource")
        state = status(self.status.state, ResourceId.parse(address) if address else None)
        return as_json({**state, "last_event": self.journal.last})

    def _events(self, request: Request) -> Answer:
        """The latest ones in all, or those after `since`, which may be waited for."""
        asked = request.query
        since, limit = asked.get("since", ""), int(asked.get("limit", KEPT_EVENTS))
        if limit < 1:
            raise ValueError("limit must be at least 1")
        after = int(since) if since.isdecimal() else 0
        last, wait = self.journal.last, min(float(asked.get("wait", 0)), WAIT_MAX)
        if wait > 0 and self._waiting.acquire(blocking=False):
            try:
                found = self.journal.since(after, wait)
            finally:
                self._waiting.release()
        else:
            found = self.journal.since(after)
        found = select(found, "" if after else since)
        # those after a number are read on from the first, else the last ones count
        found = found[:limit] if after else found[-limit:]
        last = found[-1]["id"] if found else last
        return as_json({"format_version": FORMAT_VERSION, "last": last, "events": found})

    def _reconcile(self, request: Request) -> Answer:
        for task in {self.refresh, Task.MANIFESTS, Task.EVERYTHING}:
            # who asks has fixed something, perhaps: what failed is not waited with
            self.queue.forget(task)
            self.queue.add(task)
        return as_json({"format_version": FORMAT_VERSION, "last": self.journal.last}, HTTPStatus.ACCEPTED)
