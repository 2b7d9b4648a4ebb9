"""What of a daemon is seen from outside: events on disk, pages over HTTP, and notifications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvmstate.errors import UsageError
from kvmstate.reconcile.journal import Journal, default_folder
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.notify.notifier import Notifier
from kvmstate.reconcile.status_store import Board
from kvmstate.reconcile.workqueue import Agenda, Topic
from kvmstate.web import address
from kvmstate.web.guard import Guard, guard
from kvmstate.web.pages import OPEN, Pages
from kvmstate.web.server import Server


class Outside:
    """Subscribes to the board when it is made; listens from then on, or once the project's name is known, if that says
    where."""

    def __init__(self, board: Board, agenda: Agenda, alive: Callable[[], bool], source: Topic) -> None:
        self._board = board
        self._journal = Journal(board)
        self.notifier = Notifier(board)
        metrics = Metrics(board, agenda, self.notifier.counts)
        self._pages = Pages(board, self._journal, metrics, agenda, alive, source)
        self._server: Server | None = None
        self._listens: Callable[[str], None] = lambda name: None
        self._folder: Path = default_folder()
        board.subscribe(named=self._named)

    def listen(self, where: str, token: Path | None, cert: Path | None, key: Path | None) -> None:
        """`where` is an address, none, or auto: the project's own socket, without which the daemon runs as well.
        Raises UsageError."""
        if where == "auto":
            who = guard(address.Address(Path("/")), token, cert, key, OPEN)
            self._listens = lambda name: self._try(address.default(name), who)
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

    def _try(self, at: address.Address, who: Guard) -> None:
        try:
            self._serve(at, who)
        except UsageError as error:
            self._board.say("ListenFailed", error.message, warning=True, hint=error.hint)

    def _serve(self, at: address.Address, who: Guard) -> None:
        self._server = Server(at, who, self._pages)
        self._server.start()
        self._board.say("Listening", f"on {self._server.address}")
