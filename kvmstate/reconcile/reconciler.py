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
from kvmstate.errors import KvmstateError, Locked, Reverted
from kvmstate.host import Host, open_host
from kvmstate.host.connection import default_uri
from kvmstate.manifest import Project
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.conditions import conditions, told
from kvmstate.reconcile.desired import Desired, Given, applied_last
from kvmstate.reconcile.gates import Ruled, Rules, returned, ruled
from kvmstate.reconcile.leader import CLAIM, Leadership
from kvmstate.reconcile.spool import Spool
from kvmstate.reconcile.stats import spaces
from kvmstate.reconcile.status_store import Board, Concern, Pass, Sync
from kvmstate.reconcile.triggers import GATHER, Hearing
from kvmstate.reconcile.workqueue import Agenda, Key, Topic, jittered

# Seconds: how long files must be as they are before what left them is let go; how long another run's lock is waited
# for, and another daemon's leadership
SETTLE = 10.0
LOCKED = 5.0
STANDBY = 30.0
PARALLELISM = 10
EMPTY = "the manifests are empty: nothing is let go"
JUST_NOW = "left the manifests just now"
# What is this old (seconds), and not at what may take any time, does not end any more: calls to a host that falls
# silent do
HUNG = 600.0


class Keeper:
    """Keeps one project on its host, which `project` names; `desired` are the manifests in force, if any are."""

    def __init__(self, given: Given, board: Board, agenda: Agenda, stop: threading.Event) -> None:
        self.project: Project | None = None
        self.desired: Desired | None = None
        self.hearing = Hearing(agenda, self.wanted)
        self._given = given
        self._board = board
        self._agenda = agenda
        self._stop = stop
        self._beat = time.monotonic()
        self._takes_time = False
        self._known: dict[ResourceId, Entry] | None = None
        self._locked_out: set[Key] = set()
        self._left: set[ResourceId] = set()
        self._leadership = Leadership()
        self._settled = 0.0
        self._spool = Spool(agenda.ask)
        self._spool.clear()

    @property
    def uri(self) -> str:
        """Of the project's host."""
        return (self._given.uri(self.project) if self.project else None) or default_uri()

    def keep(self, desired: Desired, anew: bool) -> None:
        """These from now on. When they are `anew`, what has left them is not let go before they have rested."""
        self.desired = desired
        if anew:
            self._settled = time.monotonic() + SETTLE

    def wanted(self) -> set[ResourceId]:
        """All that is declared, or owned."""
        return {*(self.desired.by_id if self.desired else ()), *(self._known or ())}

    @property
    def alive(self) -> bool:
        """Whether it goes on, or is at what may take long: uploads, guests that shut down, merges, fetches."""
        return self._takes_time or time.monotonic() - self._beat < HUNG

    def beat(self) -> None:
        """A sign of life."""
        self._beat = time.monotonic()

    @contextmanager
    def taking_time(self) -> Iterator[None]:
        self._takes_time = True
        try:
            yield
        finally:
            self.beat()
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

    def locked_out(self) -> set[Key]:
        """What another run's lock has kept from being done."""
        return set(self._locked_out)

    def release(self) -> None:
        """Let another one take over."""
        if self._leadership.held and self.project:
            # what cannot be given back is taken over: its process is dead
            with suppress(KvmstateError), open_host(self.uri) as host:
                self._leadership.release(open_keep(host, self.project.name, CLAIM))

    def look(self, ids: set[ResourceId], whole: bool) -> None:
        """At these (and what others have recorded meanwhile), or at everything. Raises KvmstateError."""
        if self.project is None:
            return
        started, clock = datetime.now(UTC), time.monotonic()
        with open_host(self.uri) as host:
            leads = self._leads(host, whole)
            self._board.trouble(Concern.HOST, None)
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
            verdict = self._ruled(session, desired, None if whole else ids)
            result = Result()
            if verdict.plan.todo or returned(verdict.plan, entries):
                try:
                    verdict, result = self._apply(host, desired, verdict)
                except Locked as error:
                    self._board.trouble(Concern.LOCK, error)
                    self._locked_out |= {Topic.EVERYTHING} if whole else ids
                    self._agenda.ask(Topic.UNLOCKED, after=LOCKED)
                    return
            self._board.trouble(Concern.PLAN, None)
        self._publish(verdict, result, whole)
        done = Pass(
            started,
            time.monotonic() - clock,
            whole,
            len(verdict.plan.changes),
            len(result.done),
            len(result.failed) + len(result.skipped),
        )
        self._board.passed(done)
        if whole:
            self._agenda.succeeded(Topic.EVERYTHING)
            every = jittered(self.project.reconcile.interval)
            self._agenda.ask(Topic.EVERYTHING, after=every)
            next_window = self.project.reconcile.next_window(started)
            next_look = started + timedelta(seconds=every)
            first = not self._board.state.ready
            pools = spaces(verdict.plan)
            self._board.set(ready=True, next_look=next_look, next_window=next_window, pools=pools)
            if first:
                self._board.say("Ready", f"{len(verdict.plan.changes)} resources were looked at")

    def _leads(self, host: Host, renew: bool) -> bool:
        """Whether this is the one that acts for the project. The others stand by, and try again at a look at all."""
        assert self.project
        if self._leadership.held and not renew:
            return True
        lease = 2 * self.project.reconcile.interval + LOCKED
        other = self._leadership.claim(open_keep(host, self.project.name, CLAIM), lease)
        if other != self._board.state.standby:
            self._board.set(standby=other)
            if other:
                self._board.say("StandingBy", f"{other} keeps this project on this host", warning=True)
        if other:
            self._board.set(ready=True)
            self._agenda.ask(Topic.EVERYTHING, after=STANDBY)
        return not other

    def _ruled(self, session: Session, desired: Desired, ids: set[ResourceId] | None) -> Ruled:
        settle = self._settled - time.monotonic()
        rules = Rules(
            desired.project.reconcile,
            desired.prune,
            datetime.now(UTC),
            session.store.inventory,
            self._backoff,
            EMPTY if not desired.resources else JUST_NOW if settle > 0 else "",
            self._spool.waits,
        )
        verdict = ruled(session.plan(desired.options, ids), rules)
        if settle > 0 and (left := [c.id for c in verdict.plan.blocked if c.blocked == JUST_NOW]):
            self._agenda.ask(*left, after=settle + GATHER)
        return verdict

    def _backoff(self, id_: ResourceId) -> str:
        if not self._agenda.put_off_for(id_):
            return ""
        known = self._board.state.conditions.get(id_)
        if known and known.failures:
            return known.message
        count = self.hearing.stops(id_)
        return f"its guest has stopped by itself {count} times" if count > 1 else "failed before"

    def _apply(self, host: Host, desired: Desired, seen: Ruled) -> tuple[Ruled, Result]:
        """With the lock, what is to be done is looked at once more, and done. Raises Locked."""
        ids = {change.id for change in seen.plan.todo} | {c.id for c in seen.plan.changes if c.unknown}
        ids |= returned(seen.plan, self._known or {})
        with writable(host, seen.plan.project, Writing("run"), desired.project.claim()) as store:
            self._board.trouble(Concern.LOCK, None)
            self._locked_out.clear()
            session = Session(host, store, desired.resources, desired.locate)
            verdict = self._ruled(session, desired, ids)
            before = store.inventory.entries
            plan = replace(verdict.plan, changes=tuple(c for c in verdict.plan.changes if c.id not in verdict.held))

            def heard(event: Event) -> None:
                self.beat()
                if event.kind is EventKind.DONE:
                    if self._spool.made(event.change):
                        self._agenda.ask(Topic.EVERYTHING)
                    reason, message = told(event.change, before.get(event.change.id))
                    self._board.say(reason, message, event.change.id)

            with self.taking_time():
                result = session.apply(plan, desired.options, heard, PARALLELISM, self._stop, exact=True)
            self._known = dict(store.inventory.entries)
        # what was written, and waits for its window
        result = replace(result, left=tuple(c for c in result.left if c.id not in verdict.lightened))
        if unknown := [c.id for c in plan.changes if c.unknown]:
            self._agenda.ask(*unknown, after=GATHER)
        others = tuple(c for c in seen.plan.changes if c.id not in ids)
        held = {**{id_: sync for id_, sync in seen.held.items() if id_ not in ids}, **verdict.held}
        return replace(verdict, plan=replace(verdict.plan, changes=(*verdict.plan.changes, *others)), held=held), result

    def _publish(self, verdict: Ruled, result: Result, whole: bool) -> None:
        shown, gone = conditions(verdict, result)
        failed = {change.id for change, _ in [*result.failed, *result.skipped]}
        # somebody may have changed it meanwhile: at the second time it is libvirt that does not keep it
        left = {change.id for change in result.left}
        failed |= left & self._left
        self._left = left - failed
        reverted = {change.id for change, error in result.failed if isinstance(error, Reverted)}
        before = self._board.state.conditions
        for index, condition in enumerate(shown):
            id_ = condition.id
            if id_ in self._left:
                self._agenda.ask(id_, after=GATHER)
            elif id_ in failed:
                after = self._agenda.failed(id_)
                next_try: datetime | None = datetime.now(UTC) + timedelta(seconds=after)
                if id_ in reverted:
                    # its guest was disturbed for nothing: not again before its manifest is another one
                    self._agenda.put_off(id_, math.inf)
                    next_try = None
                shown[index] = replace(condition, failures=self._agenda.failures(id_), next_try=next_try)
                if self._agenda.failures(id_) == 1 and not whole:
                    # what it needs may have gone, which no event tells of a volume
                    self._agenda.ask(Topic.EVERYTHING)
            elif id_ not in verdict.held:
                self._agenda.succeeded(id_)
            elif condition.sync is Sync.FAILING and id_ in before and before[id_].failures:
                shown[index] = before[id_]
        if result.done:
            # what failed may have waited for this
            for id_ in {id_ for id_ in verdict.held if self._agenda.failures(id_)}:
                if math.isinf(self._agenda.put_off_for(id_)):
                    continue
                self._agenda.put_off(id_, GATHER)
        if whole:
            known = {condition.id for condition in shown}
            gone |= self._board.state.conditions.keys() - known
        self._board.show([condition for condition in shown if condition.id not in self._left], gone)
