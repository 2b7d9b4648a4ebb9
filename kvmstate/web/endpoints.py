"""What of a daemon is seen from outside: events on disk, pages over HTTP, and notifications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvmstate.errors import UsageError
from kvmstate.reconcile.journal import Journal, default_folder
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.notify.notifier import Notifier
from kvmstate.reconcile.status_store import StatusStore
from kvmstate.reconcile.workqueue import Task, WorkQueue
from kvmstate.web import address
from kvmstate.web.guard import Guard, guard
from kvmstate.web.pages import OPEN, Pages
from kvmstate.web.server import Server


class Endpoints:
    """Subscribes to the status store when it is made; listens from then on, or once the project's name is known, if
    that says where."""

    def __init__(self, status: StatusStore, queue: WorkQueue, alive: Callable[[], bool], refresh: Task) -> None:
        self._status = status
        self._journal = Journal(status)
        self.notifier = Notifier(status)
        metrics = Metrics(status, queue, self.notifier.counts)
        self._pages = Pages(status, self._journal, metrics, queue, alive, refresh)
        self._server: Server | None = None
        self._listens: Callable[[str], None] = lambda name: None
        self._folder: Path = default_folder()
        status.subscribe(named=self._named)

    def listen(self, where: str, token: Path | None, cert: Path | None, key: Path | None) -> None:
        """`where` is an address, none, or auto: the project's own socket, without which the daemon runs as well.
        Raises UsageError."""
        if where == "auto":
            auth = guard(address.Address(Path("/")), token, cert, key, OPEN)
            self._listens = lambda name: self._try(address.default(name), auth)
        elif where != "none":
            at = address.parse(where)
            self._serve(at, guard(at, token, cert, key, OPEN))

    def close(self) -> None:
        self.notifier.close()
        if self._server:
            self._server.close()

    def _named(self, project: str) -> None:
        self._journal.open(self._folder, project)
        self._listens(project)

    def _try(self, at: address.Address, auth: Guard) -> None:
        try:
            self._serve(at, auth)
        except UsageError as error:
            self._status.record_event("ListenFailed", error.message, warning=True, hint=error.hint)

    def _serve(self, at: address.Address, auth: Guard) -> None:
        self._server = Server(at, auth, self._pages)
        self._server.start()
        self._status.record_event("Listening", f"on {self._server.address}")
