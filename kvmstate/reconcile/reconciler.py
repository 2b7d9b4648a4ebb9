"""One look at a host: at some resources or at all, and what may be done about it at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kvmstate.app import Session, Writing, claimed, open_session, writable
from kvmstate.apply import Event, EventKind, Result, open_store
from kvmstate.apply.keep import open_keep
from kvmstate.apply.lock import LEADER
from kvmstate.errors import KvmstateError, Locked, Reverted
from kvmstate.host import Host, open_host
from kvmstate.host.connection import default_uri
from kvmstate.manifest import Project
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.desired import Desired, Source, applied_last
from kvmstate.reconcile.gates import Gated, Gates, apply_gates, returned
from kvmstate.reconcile.leader import Leadership
from kvmstate.reconcile.spool import Spool
from kvmstate.reconcile.stats import spaces
from kvmstate.reconcile.status_store import ConditionType, ReconcileResult, StatusStore, Sync
from kvmstate.reconcile.statuses import event_of, statuses
from kvmstate.reconcile.triggers import AGAIN, EventRouter
from kvmstate.reconcile.workqueue import Task, WorkItem, WorkQueue, jittered

# Seconds: how long files must be as they are before what left them is removed; how long another run's lock is waited
# for, and another daemon's leadership
SETTLE = 10.0
LOCKED = 5.0
STANDBY = 30.0
PARALLELISM = 10
EMPTY = "the manifests are empty: nothing is removed"
JUST_NOW = "removed from the manifests just now"
# What is this old (seconds), and not at what may take any time, does not end any more: calls to a host that falls
# silent do
HUNG = 600.0


class Reconciler:
    """Keeps one project on its host, which `project` names; `desired` are the manifests in force, if any are."""

    def __init__(self, source: Source, status: StatusStore, queue: WorkQueue, stop: threading.Event) -> None:
        self.project: Project | None = None
        self.desired: Desired | None = None
        self.router = EventRouter(queue, self.wanted)
        self._source = source
        self._status = status
        self._queue = queue
        self._stop = stop
        self._beat = time.monotonic()
        self._takes_time = False
        self._known: dict[ResourceId, Entry] | None = None
        self._locked_out: set[WorkItem] = set()
        self._left: set[ResourceId] = set()
        self._leadership = Leadership()
        self._settled = 0.0
        self._spool = Spool(queue.add)
        self._spool.clear()

    @property
    def uri(self) -> str:
        """The URI of the project's host."""
        return (self._source.uri(self.project) if self.project else None) or default_uri()

    def use(self, desired: Desired, changed: bool) -> None:
        """Keep to these manifests from now on. When they have `changed`, what has left them is not let go before they
        have rested."""
        self.desired = desired
        if changed:
            self._settled = time.monotonic() + SETTLE

    def wanted(self) -> set[ResourceId]:
        """All that is declared, or owned."""
        return {*(self.desired.by_id if self.desired else ()), *(self._known or ())}

    @property
    def alive(self) -> bool:
        """Whether it goes on, or is at what may take long: uploads, guests that shut down, merges, fetches."""
        return self._takes_time or time.monotonic() - self._beat < HUNG

    def heartbeat(self) -> None:
        """A sign of life."""
        self._beat = time.monotonic()

    @contextmanager
    def taking_time(self) -> Iterator[None]:
        self._takes_time = True
        try:
            yield
        finally:
            self.heartbeat()
            self._takes_time = False

    @contextmanager
    def writing(self, desired: Desired) -> Iterator[Session]:
        """A session that holds the lock. Raises Locked, ConnectionFailed."""
        with (
            self.taking_time(),
            open_session(
                self.uri,
                desired.project.name,
                desired.resources,
                desired.locate,
                Writing("run"),
                desired.project.claim(),
            ) as session,
        ):
            yield session

    def locked_out(self) -> set[WorkItem]:
        """What another run's lock has kept from being done."""
        return set(self._locked_out)

    def release(self) -> None:
        """Let another one take over."""
        if self._leadership.held and self.project:
            # what cannot be given back is taken over: its process is dead
            with suppress(KvmstateError), open_host(self.uri) as host:
                self._leadership.release(open_keep(host, self.project.name, LEADER))

    def reconcile(self, ids: set[ResourceId], whole: bool) -> None:
        """Look at these (and what others have recorded meanwhile), or at everything, and do what may be done. Raises
        KvmstateError."""
        if self.project is None:
            return
        started, clock = datetime.now(UTC), time.monotonic()
        with open_host(self.uri) as host:
            # an event tells when it may go on
            host.patient = False
            leads = self._leads(host, whole)
            self._status.set_condition(ConditionType.HOST, None)
            if not leads:
                return
            store = claimed(open_store(host, self.project.name), self.project.claim())
            desired = self.desired or applied_last(self.project, store)
            entries = dict(store.inventory.entries)
            if self._known is not None and not whole:
                ids |= {id_ for id_ in entries.keys() | self._known.keys() if entries.get(id_) != self._known.get(id_)}
            self._known = entries
            if not (ids or whole):
                return
            session = Session(host, store, desired.resources, desired.locate)
            gated = self._gated(session, desired, None if whole else ids)
            result = Result()
            if gated.plan.todo or returned(gated.plan, entries):
                try:
                    gated, result = self._apply(host, desired, gated)
                except Locked as error:
                    self._status.set_condition(ConditionType.LOCK, error)
                    self._locked_out |= {Task.EVERYTHING} if whole else ids
                    self._queue.add(Task.UNLOCKED, after=LOCKED)
                    return
            self._status.set_condition(ConditionType.PLAN, None)
        self._publish(gated, result, whole)
        done = ReconcileResult(
            started,
            time.monotonic() - clock,
            whole,
            len(gated.plan.changes),
            len(result.done),
            len(result.failed) + len(result.skipped),
        )
        self._status.record_result(done)
        if whole:
            self._queue.forget(Task.EVERYTHING)
            every = jittered(self.project.reconcile.interval)
            self._queue.add(Task.EVERYTHING, after=every)
            first = not self._status.state.ready
            self._status.update(
                ready=True,
                next_sync=started + timedelta(seconds=every),
                next_window=self.project.reconcile.next_window(started),
                pools=spaces(gated.plan),
                notes=gated.plan.notes,
            )
            if first:
                self._status.record_event("Ready", f"the first full check is done: {len(gated.plan.changes)} resources")

    def _leads(self, host: Host, renew: bool) -> bool:
        """Whether this is the one that acts for the project. The others stand by, and try again at a full check."""
        assert self.project
        if self._leadership.held and not renew:
            return True
        settings = self.project.reconcile
        lease = 2 * settings.interval + LOCKED
        other = self._leadership.claim(open_keep(host, self.project.name, LEADER), lease, settings.mode)
        if other != self._status.state.standby:
            self._status.update(standby=other)
            if other:
                self._status.record_event(
                    "LeaderElectionLost", f"{other} keeps this project on this host", warning=True
                )
        if other:
            self._status.update(ready=True)
            self._queue.add(Task.EVERYTHING, after=STANDBY)
        return not other

    def _gated(self, session: Session, desired: Desired, ids: set[ResourceId] | None) -> Gated:
        settle = self._settled - time.monotonic()
        gates = Gates(
            desired.project.reconcile,
            desired.prune,
            datetime.now(UTC),
            session.store.inventory,
            self._backoff,
            EMPTY if not desired.resources else JUST_NOW if settle > 0 else "",
            self._spool.waits,
        )
        gated = apply_gates(session.plan(desired.options, ids), gates)
        if settle > 0 and (left := [c.id for c in gated.plan.blocked if c.blocked == JUST_NOW]):
            self._queue.add(*left, after=settle + AGAIN)
        return gated

    def _backoff(self, id_: ResourceId) -> str:
        if not self._queue.delayed_for(id_):
            return ""
        known = self._status.state.resources.get(id_)
        if known and known.failures:
            return known.message
        count = self.router.stops(id_)
        return f"its guest has stopped by itself {count} times" if count > 1 else "failed before"

    def _apply(self, host: Host, desired: Desired, seen: Gated) -> tuple[Gated, Result]:
        """With the lock, what is to be done is looked at once more, and done. Raises Locked."""
        ids = {change.id for change in seen.plan.todo} | {c.id for c in seen.plan.changes if c.unknown}
        ids |= returned(seen.plan, self._known or {})
        with writable(host, seen.plan.project, Writing("run"), desired.project.claim()) as store:
            self._status.set_condition(ConditionType.LOCK, None)
            self._locked_out.clear()
            session = Session(host, store, desired.resources, desired.locate)
            gated = self._gated(session, desired, ids)
            before = store.inventory.entries
            plan = replace(gated.plan, changes=tuple(c for c in gated.plan.changes if c.id not in gated.held))

            def heard(event: Event) -> None:
                self.heartbeat()
                if event.kind is EventKind.DONE:
                    if self._spool.made(event.change):
                        self._queue.add(Task.EVERYTHING)
                    reason, message = event_of(event.change, before.get(event.change.id), store.sealed)
                    self._status.record_event(reason, message, event.change.id)

            with self.taking_time():
                result = session.apply(plan, desired.options, heard, PARALLELISM, self._stop, exact=True)
            self._known = dict(store.inventory.entries)
        # what was written, and waits for its window
        result = replace(result, left=tuple(c for c in result.left if c.id not in gated.deferred))
        if unknown := [c.id for c in plan.changes if c.unknown]:
            self._queue.add(*unknown, after=AGAIN)
        others = tuple(c for c in seen.plan.changes if c.id not in ids)
        held = {**{id_: sync for id_, sync in seen.held.items() if id_ not in ids}, **gated.held}
        return replace(gated, plan=replace(gated.plan, changes=(*gated.plan.changes, *others)), held=held), result

    def _publish(self, gated: Gated, result: Result, whole: bool) -> None:
        shown, gone = statuses(gated, result)
        failed = {change.id for change, _ in [*result.failed, *result.skipped]}
        # somebody may have changed it meanwhile: at the second time it is libvirt that does not keep it
        left = {change.id for change in result.left}
        failed |= left & self._left
        self._left = left - failed
        reverted = {change.id for change, error in result.failed if isinstance(error, Reverted)}
        before = self._status.state.resources
        for index, resource in enumerate(shown):
            id_ = resource.id
            if id_ in self._left:
                self._queue.add(id_, after=AGAIN)
            elif id_ in failed:
                after = self._queue.retry(id_)
                next_try: datetime | None = datetime.now(UTC) + timedelta(seconds=after)
                if id_ in reverted:
                    # its guest was disturbed for nothing: not again before its manifest is another one
                    self._queue.delay(id_, math.inf)
                    next_try = None
                shown[index] = replace(resource, failures=self._queue.failures(id_), next_try=next_try)
                if self._queue.failures(id_) == 1 and not whole:
                    # what it needs may have gone, which no event tells of a volume
                    self._queue.add(Task.EVERYTHING)
            elif id_ not in gated.held:
                self._queue.forget(id_)
            elif resource.sync is Sync.FAILED and id_ in before and before[id_].failures:
                shown[index] = replace(before[id_], state=resource.state)
        if result.done:
            # what failed may have waited for this
            for id_ in {id_ for id_ in gated.held if self._queue.failures(id_)}:
                if math.isinf(self._queue.delayed_for(id_)):
                    continue
                self._queue.delay(id_, AGAIN)
        if whole:
            known = {resource.id for resource in shown}
            gone |= self._status.state.resources.keys() - known
        self._status.update_resources([resource for resource in shown if resource.id not in self._left], gone)
