"""The loop: what is due is done, one thing at a time, and nothing that goes wrong ends it.

Level-triggered: an event says where to look, never what to do. What was looked at is compared with the manifests in
force, and what may be done now is done.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from kvmstate.errors import ConnectionFailed, HostError, KvmstateError, Locked, PlanError, UsageError
from kvmstate.host.events import Events
from kvmstate.model.resource import ResourceId
from kvmstate.model.uri import redacted
from kvmstate.reconcile.desired import Given
from kvmstate.reconcile.reconciler import Keeper
from kvmstate.reconcile.scheduler import TICK, Calendar
from kvmstate.reconcile.status_store import Board, Concern
from kvmstate.reconcile.workqueue import Agenda, Key, Topic, jittered
from kvmstate.sources.revision import Revision


class Loop:
    """Runs in the thread that calls `run`. Set `stop`, and `agenda.wake()`: running steps are finished."""

    def __init__(self, given: Given, board: Board, agenda: Agenda | None = None) -> None:
        self.board = board
        self.agenda = agenda or Agenda()
        self.stop = threading.Event()
        # told at the end of each turn when that began
        self.turned: Callable[[float], None] = lambda began: None
        # to be asked for by who wants the newest manifests
        self.source = Topic.SOURCE if given.fetch else Topic.MANIFESTS
        self._given = given
        self._keeper = Keeper(given, board, self.agenda, self.stop)
        self._calendar = Calendar(board, self.agenda, self._keeper)
        self._events: Events | None = None
        self._fetched = board.state.revision
        self._fetching: threading.Thread | None = None
        self._outcome: tuple[Revision, str] | KvmstateError | None = None
        self._read: object = None
        self._do: dict[Topic, Callable[[], None]] = {
            Topic.SOURCE: self._fetch,
            Topic.FETCHED: self._see_fetched,
            Topic.MANIFESTS: self._load,
            Topic.LISTEN: self._listen,
        }

    def run(self) -> None:
        self.agenda.ask(self.source)
        try:
            while not self.stop.is_set():
                due = self.agenda.next(TICK)
                began = time.monotonic()
                self._keeper.beat()
                if not self.stop.is_set():
                    with self._given.reading:
                        self._turn(due)
                    self.turned(began)
        finally:
            if self._events:
                self._events.close()
            self._keeper.release()

    @property
    def alive(self) -> bool:
        """Whether it goes on, or is at what may take long."""
        return self._keeper.alive

    def _turn(self, due: set[Key]) -> None:
        if Topic.EVERYTHING in due and self._given.stamp() != self._read:
            # not every change of a file is told, such as another machine's on a network file system
            due.add(Topic.MANIFESTS)
        for topic, do in self._do.items():
            if topic in due:
                self._guarded(topic, do)
                # what this has asked for is done in the same turn
                due |= self.agenda.take()
        if Topic.UNLOCKED in due:
            due |= self._keeper.locked_out()
        ids = {key for key in due if isinstance(key, ResourceId)} & self._keeper.wanted()
        if self._events and (ids or due & {Topic.EVERYTHING, Topic.RECORD}):
            self._guarded(Topic.EVERYTHING, lambda: self._keeper.look(ids, Topic.EVERYTHING in due))
        if not self.agenda.put_off_for(Topic.POLICIES):
            self._guarded(Topic.POLICIES, lambda: self._calendar.look(datetime.now(UTC)))

    def _guarded(self, key: Topic, do: Callable[[], None]) -> None:
        """Nothing ends the loop; what failed is done again."""
        try:
            do()
        except ConnectionFailed as error:
            self.board.trouble(Concern.HOST, error)
            self.agenda.failed(Topic.LISTEN)
        except Locked as error:
            self.board.trouble(Concern.LOCK, error)
            self.agenda.failed(key)
        except KvmstateError as error:
            self.board.trouble(Concern.HOST if isinstance(error, HostError) else Concern.PLAN, error)
            self.agenda.failed(key)
        except Exception as error:
            if os.environ.get("KVMSTATE_DEBUG"):
                traceback.print_exc()
            self.board.trouble(Concern.BUG, _bug(error))
            self.agenda.failed(key)
        else:
            if key is not Topic.POLICIES:
                self.board.trouble(Concern.BUG, None)

    def _fetch(self) -> None:
        """In a thread of its own: a repository that cannot be reached holds nothing up."""
        if self._fetching is None:
            self._fetching = threading.Thread(target=self._do_fetch, name="fetch", daemon=True)
            self._fetching.start()

    def _do_fetch(self) -> None:
        assert self._given.fetch
        try:
            self._outcome = self._given.fetch()
        except KvmstateError as error:
            self._outcome = error
        except Exception as error:
            self._outcome = _bug(error)
        self.agenda.ask(Topic.FETCHED)

    def _see_fetched(self) -> None:
        self._fetching = None
        if isinstance(self._outcome, KvmstateError):
            self.board.trouble(Concern.SOURCE, self._outcome)
            self.agenda.failed(Topic.SOURCE)
            if self._keeper.project is None:
                self.agenda.ask(Topic.MANIFESTS)
            return
        assert self._outcome
        revision, note = self._outcome
        self.board.trouble(Concern.SOURCE, None)
        self.agenda.succeeded(Topic.SOURCE)
        self.agenda.ask(Topic.SOURCE, after=jittered(self._given.every))
        if note:
            self.board.say("HistoryRewritten", note, warning=True)
        if revision != self._fetched or self._keeper.desired is None:
            self._fetched = revision
            self.agenda.ask(Topic.MANIFESTS)

    def _load(self) -> None:
        """The manifests as they are now; when they are not whole, the last good ones stay."""
        self._read = self._given.stamp()
        try:
            project = self._given.project()
            self._given.found(project)
            if self._keeper.project and project.name != self._keeper.project.name:
                raise UsageError(
                    f"the project is named {project.name} now, and was {self._keeper.project.name}: what is owned by "
                    f"{self._keeper.project.name} would be nobody's",
                    "restart `kvmstate run` if that is meant",
                )
            first, self._keeper.project = self._keeper.project is None, project
            if first:
                self._keeper.hearing.project = project.name
                self.board.set(project=project.name, host=redacted(self._keeper.uri))
                self.agenda.ask(Topic.LISTEN)
            desired = self._given.load()
            if not desired.resources and self._keeper.desired and self._keeper.desired.resources:
                # a file that is being written is empty at first, and so is a folder whose file system has gone
                raise PlanError(
                    f"the manifests declare nothing any more: the {len(self._keeper.desired.resources)} resources that "
                    "they declared are kept",
                    "if that is meant, stop `kvmstate run` and use `kvmstate destroy`",
                )
        except KvmstateError as error:
            self.board.trouble(Concern.MANIFESTS, self._given.named(error), self._fetched)
            if self._keeper.project is None:
                self.agenda.failed(Topic.MANIFESTS)
            return
        self.board.trouble(Concern.MANIFESTS, None)
        self.agenda.succeeded(Topic.MANIFESTS)
        self.board.set(mode=project.reconcile.mode, loaded=datetime.now(UTC))
        if self._fetched and self._fetched != self.board.state.revision:
            self.board.set(revision=self._fetched)
            self.board.say("RevisionInForce", str(self._fetched))
        before = self._keeper.desired
        if before is None or not desired.means_the_same(before):
            asked: set[Key] = {Topic.EVERYTHING}
        else:
            asked = {*desired.changed(before)}
            if asked:
                # how many have left decides about each of them
                asked |= self._keeper.wanted() - desired.by_id.keys()
        self._keeper.keep(desired, anew=bool(asked))
        if asked:
            self._calendar.anew()
            self.agenda.succeeded(*asked)
            self.agenda.ask(*asked)

    def _listen(self) -> None:
        """Connect anew; then everything may have changed."""
        assert self._keeper.project
        if self._events:
            self._events.close()
            self._events = None
        self._events = Events(self._keeper.uri, self._keeper.hearing.heard, lambda: self.agenda.ask(Topic.LISTEN))
        self.agenda.succeeded(Topic.LISTEN)
        self.agenda.ask(Topic.EVERYTHING)


def _bug(error: Exception) -> KvmstateError:
    return KvmstateError(f"{type(error).__name__}: {error}", "this is a bug in kvmstate: please report it")
