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
from kvmstate.manifest import Project
from kvmstate.model.resource import ResourceId
from kvmstate.model.uri import redacted
from kvmstate.reconcile.desired import Desired, Source
from kvmstate.reconcile.reconciler import Reconciler
from kvmstate.reconcile.sampler import Sampler
from kvmstate.reconcile.scheduler import TICK, Scheduler
from kvmstate.reconcile.status_store import ConditionType, StatusStore
from kvmstate.reconcile.workqueue import Task, WorkItem, WorkQueue, jittered
from kvmstate.sources.revision import Revision


class Loop:
    """Runs in the thread that calls `run`. Set `stop`, and `queue.wake()`: running steps are finished."""

    def __init__(self, source: Source, status: StatusStore, queue: WorkQueue | None = None) -> None:
        self.status = status
        self.queue = queue or WorkQueue()
        self.stop = threading.Event()
        # told at the end of each turn when that began
        self.turned: Callable[[float], None] = lambda began: None
        # to be added by who wants the newest manifests
        self.refresh = Task.SOURCE if source.fetch else Task.MANIFESTS
        self._source = source
        self._reconciler = Reconciler(source, status, self.queue, self.stop)
        self._scheduler = Scheduler(status, self.queue, self._reconciler)
        self._events: Events | None = None
        self._fetched = status.state.revision
        self._fetching: threading.Thread | None = None
        self._outcome: tuple[Revision, str] | KvmstateError | None = None
        self._stamp: object = None
        self._do: dict[Task, Callable[[], None]] = {
            Task.SOURCE: self._fetch,
            Task.FETCHED: self._see_fetched,
            Task.MANIFESTS: self._load,
            Task.LISTEN: self._listen,
        }

    def run(self) -> None:
        self.queue.add(self.refresh)
        Sampler(self.status, self._sampled, self.stop).start()
        try:
            while not self.stop.is_set():
                due = self.queue.get(TICK)
                began = time.monotonic()
                self._reconciler.heartbeat()
                if not self.stop.is_set():
                    with self._source.reading:
                        self._turn(due)
                    self.turned(began)
        finally:
            if self._events:
                self._events.close()
            self._reconciler.release()

    def _sampled(self) -> str | None:
        """The host whose machines are looked at for the metrics, if they are asked for."""
        project = self._reconciler.project
        return self._reconciler.uri if project and project.reconcile.metrics == "machines" else None

    @property
    def alive(self) -> bool:
        """Whether it goes on, or is at what may take long."""
        return self._reconciler.alive

    def _turn(self, due: set[WorkItem]) -> None:
        if Task.EVERYTHING in due and self._source.stamp() != self._stamp:
            # not every change of a file is told, such as another machine's on a network file system
            due.add(Task.MANIFESTS)
        todo = {*due}
        while (task := next((each for each in self._do if each in todo), None)) is not None:
            todo.remove(task)
            self._guarded(task, self._do[task])
            # what was added meanwhile is done in the same turn, also the same once more: a reload may come during one
            todo |= (added := self.queue.drain())
            due |= added
        if Task.UNLOCKED in due:
            due |= self._reconciler.locked_out()
        ids = {key for key in due if isinstance(key, ResourceId)} & self._reconciler.wanted()
        if self._events and (ids or due & {Task.EVERYTHING, Task.RECORD}):
            self._guarded(Task.EVERYTHING, lambda: self._reconciler.reconcile(ids, Task.EVERYTHING in due))
        if not self.queue.delayed_for(Task.POLICIES):
            self._guarded(Task.POLICIES, lambda: self._scheduler.run_due(datetime.now(UTC)))

    def _guarded(self, task: Task, do: Callable[[], None]) -> None:
        """Nothing ends the loop; what failed is done again."""
        try:
            do()
        except ConnectionFailed as error:
            self.status.set_condition(ConditionType.HOST, error)
            self.queue.retry(Task.LISTEN)
        except Locked as error:
            self.status.set_condition(ConditionType.LOCK, error)
            self.queue.retry(task)
        except KvmstateError as error:
            self.status.set_condition(ConditionType.HOST if isinstance(error, HostError) else ConditionType.PLAN, error)
            self.queue.retry(task)
        except Exception as error:
            if os.environ.get("KVMSTATE_DEBUG"):
                traceback.print_exc()
            self.status.set_condition(ConditionType.BUG, _bug(error))
            self.queue.retry(task)
        else:
            if task is not Task.POLICIES:
                self.status.set_condition(ConditionType.BUG, None)

    def _fetch(self) -> None:
        """In a thread of its own: a repository that cannot be reached holds nothing up."""
        if self._fetching is None:
            self._fetching = threading.Thread(target=self._do_fetch, name="fetch", daemon=True)
            self._fetching.start()

    def _do_fetch(self) -> None:
        assert self._source.fetch
        try:
            self._outcome = self._source.fetch()
        except KvmstateError as error:
            self._outcome = error
        except Exception as error:
            self._outcome = _bug(error)
        self.queue.add(Task.FETCHED)

    def _see_fetched(self) -> None:
        self._fetching = None
        if isinstance(self._outcome, KvmstateError):
            self.status.set_condition(ConditionType.SOURCE, self._outcome)
            self.queue.retry(Task.SOURCE)
            if self._reconciler.project is None:
                self.queue.add(Task.MANIFESTS)
            return
        assert self._outcome
        revision, note = self._outcome
        self.status.set_condition(ConditionType.SOURCE, None)
        self.queue.forget(Task.SOURCE)
        self.queue.add(Task.SOURCE, after=jittered(self._source.every))
        if note:
            self.status.record_event("HistoryRewritten", note, warning=True)
        if revision != self._fetched or self._reconciler.desired is None:
            self._fetched = revision
            self.queue.add(Task.MANIFESTS)

    def _load(self) -> None:
        """The manifests as they are now; when they are not whole, the last good ones stay."""
        try:
            project, desired = self._read()
        except KvmstateError as error:
            self.status.set_condition(ConditionType.MANIFESTS, self._source.named(error), self._fetched)
            if self._reconciler.project is None:
                self.queue.retry(Task.MANIFESTS)
            return
        self.status.set_condition(ConditionType.MANIFESTS, None)
        self.queue.forget(Task.MANIFESTS)
        self.status.update(mode=project.reconcile.mode, loaded=datetime.now(UTC), desired=desired.by_id)
        if self._fetched and self._fetched != self.status.state.revision:
            self.status.update(revision=self._fetched)
            self.status.record_event("RevisionInForce", str(self._fetched))
        before = self._reconciler.desired
        if before is None or not desired.means_the_same(before):
            asked: set[WorkItem] = {Task.EVERYTHING}
        else:
            asked = {*desired.changed(before)}
            if asked:
                # how many have left decides about each of them
                asked |= self._reconciler.wanted() - desired.by_id.keys()
        self._reconciler.use(desired, changed=bool(asked))
        if asked:
            self._scheduler.reset()
            self.queue.forget(*asked)
            self.queue.add(*asked)

    def _read(self) -> tuple[Project, Desired]:
        """What the files say. Raises KvmstateError for what cannot be read, or is not to be believed."""
        self._stamp = self._source.stamp()
        project, known, before = self._source.project(), self._reconciler.project, self._reconciler.desired
        self._source.found(project)
        if known and project.name != known.name:
            raise UsageError(
                f"the project is named {project.name} now, and was {known.name}: what is owned by {known.name} would "
                "be nobody's",
                "restart `kvmstate run` if that is meant",
            )
        self._reconciler.project = project
        if known is None:
            self._reconciler.router.project = project.name
            self.status.update(project=project.name, host=redacted(self._reconciler.uri))
            self.queue.add(Task.LISTEN)
        desired = self._source.load()
        if before and before.resources and not desired.resources:
            # a file that is being written is empty at first, and so is a folder whose file system has gone
            raise PlanError(
                f"the manifests no longer declare any resources: the {len(before.resources)} that they declared "
                "are kept",
                "if that is meant, stop `kvmstate run` and use `kvmstate destroy`",
            )
        return project, desired

    def _listen(self) -> None:
        """Connect again; then everything may have changed."""
        assert self._reconciler.project
        if self._events:
            self._events.close()
            self._events = None
        self._events = Events(
            self._reconciler.uri, self._reconciler.router.on_event, lambda: self.queue.add(Task.LISTEN)
        )
        self.queue.forget(Task.LISTEN)
        self.queue.add(Task.EVERYTHING)


def _bug(error: Exception) -> KvmstateError:
    return KvmstateError(f"{type(error).__name__}: {error}", "this is a bug in kvmstate: please report it")
