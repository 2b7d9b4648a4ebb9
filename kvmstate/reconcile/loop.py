"""The loop: what is due is done, one thing at a time, and nothing that goes wrong ends it.

Level-triggered: an event says where to look, never what to do. What was looked at is compared with the manifests in
force, and what may be done now is done.
"""

from __future__ import annotations

import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kvmstate.app import Session, Writing, open_session, writable
from kvmstate.apply import Event, EventKind, Result, open_store
from kvmstate.apply.keep import open_keep
from kvmstate.errors import ConnectionFailed, HostError, KvmstateError, Locked, Reverted, UsageError
from kvmstate.host import Host, open_host
from kvmstate.host.connection import default_uri
from kvmstate.host.events import Events, Heard
from kvmstate.kinds.snapshot_policy.run import Outcome
from kvmstate.manifest import Project
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.agenda import Agenda, Key, Topic, jittered
from kvmstate.reconcile.board import Board, Concern, Pass, Sync
from kvmstate.reconcile.conditions import conditions, told
from kvmstate.reconcile.desired import Desired, Given, applied_last
from kvmstate.reconcile.figures import newest, spaces
from kvmstate.reconcile.leader import CLAIM, Leadership
from kvmstate.reconcile.rules import Ruled, Rules, returned, ruled

# Seconds: the longest wait without a look at the clock on the wall, which may jump; how long events are gathered,
# as one call may make several; how long files must be as they are before what left them is let go; how long another
# run's lock is waited for, and another daemon's leadership; how old what was read may be when everything is looked at
TICK = 30.0
GATHER = 0.02
SETTLE = 10.0
LOCKED = 5.0
STANDBY = 30.0
REREAD = 60.0
# A guest that stops by itself so long after the last time, is no longer one that keeps stopping
CALM = 600.0
ITS_OWN_STOPS = {"stopped (shutdown)", "stopped (crashed)", "stopped (failed)"}
PARALLELISM = 10
EMPTY = "the manifests are empty: nothing is let go"
JUST_NOW = "left the manifests just now"
# What is done when another's claim has ended; the other secrets of a project are its record
CLAIMS = {"lock": Topic.UNLOCKED, CLAIM: Topic.EVERYTHING}
# A turn that is this old (seconds), and not at what may take any time, does not end any more: calls to a host that
# falls silent do
HUNG = 600.0


class Loop:
    """Runs in the thread that calls `run`. Set `stop`, and `agenda.wake()`: running steps are finished."""

    def __init__(self, given: Given, board: Board, agenda: Agenda | None = None) -> None:
        self.board = board
        self.agenda = agenda or Agenda()
        self.stop = threading.Event()
        self.beat = time.monotonic()
        # told at the end of each turn when that began
        self.turned: Callable[[float], None] = lambda began: None
        self._takes_time = False
        # to be asked for by who wants the newest manifests
        self.source = Topic.SOURCE if given.fetch else Topic.MANIFESTS
        self._given = given
        self._project: Project | None = None
        self._desired: Desired | None = None
        self._events: Events | None = None
        self._known: dict[ResourceId, Entry] | None = None
        self._locked_out: set[Key] = set()
        self._left: set[ResourceId] = set()
        self._stops: dict[ResourceId, tuple[int, float]] = {}
        self._leadership = Leadership()
        self._fetched = board.state.revision
        self._loaded = self._read = -SETTLE
        self._next_policies: datetime | None = None
        self._wall = datetime.now(UTC)
        self._do: dict[Topic, Callable[[], None]] = {
            Topic.SOURCE: self._fetch,
            Topic.MANIFESTS: self._load,
            Topic.LISTEN: self._listen,
        }

    def run(self) -> None:
        self.agenda.ask(self.source)
        try:
            while not self.stop.is_set():
                due = self.agenda.next(TICK)
                began = self.beat = time.monotonic()
                if not self.stop.is_set():
                    self._turn(due)
                    self.turned(began)
        finally:
            if self._events:
                self._events.close()
            if self._leadership.held and self._project:
                # one that cannot be given back is taken over: its process is dead
                with suppress(KvmstateError), open_host(self._given.uri(self._project)) as host:
                    self._leadership.release(open_keep(host, self._project.name, CLAIM))

    @property
    def alive(self) -> bool:
        """Whether it goes on, or is at what may take long: uploads, guests that shut down, merges, fetches."""
        return self._takes_time or time.monotonic() - self.beat < HUNG

    @contextmanager
    def _taking_time(self) -> Iterator[None]:
        self._takes_time = True
        try:
            yield
        finally:
            self.beat, self._takes_time = time.monotonic(), False

    def heard(self, event: Heard) -> None:
        """From libvirt's event thread."""
        id_ = event.id
        if id_.kind == "secret":
            project = self._project.name if self._project else ""
            usage, _, part = id_.name.rpartition(":")
            if usage == f"kvmstate:{project}" and (part not in CLAIMS or event.what == "undefined"):
                self.agenda.ask(CLAIMS.get(part, Topic.RECORD), after=GATHER)
        elif id_.kind == "pool":
            volumes = [v for v in self._wanted() if v.kind == "volume" and v.name.startswith(f"{id_.name}/")]
            self.agenda.ask(id_, *volumes, after=GATHER)
        elif event.what in ITS_OWN_STOPS:
            self._has_stopped(id_)
        elif event.what != "shutdown":
            # a guest that goes down is not looked at before it is down
            self.agenda.ask(id_, after=GATHER)

    def _has_stopped(self, id_: ResourceId) -> None:
        """By itself: one that goes on doing so is started again later each time, as Kubernetes backs off."""
        count, last = self._stops.get(id_, (0, 0.0))
        now = time.monotonic()
        count = count + 1 if now - last < CALM else 1
        self._stops[id_] = count, now
        if count == 1:
            self.agenda.ask(id_, after=GATHER)
        else:
            self.agenda.put_off(id_, min(10 * 2.0 ** min(count - 2, 10), 300))

    def _wanted(self) -> set[ResourceId]:
        return {*(self._desired.by_id if self._desired else ()), *(self._known or ())}

    def _turn(self, due: set[Key]) -> None:
        if Topic.EVERYTHING in due and time.monotonic() - self._read > REREAD and not self._given.fetch:
            # not every change of a file is told, such as another machine's on a network file system
            due.add(Topic.MANIFESTS)
        for topic, do in self._do.items():
            if topic in due:
                self._guarded(topic, do)
                # what this has asked for is done in the same turn
                due |= self.agenda.take()
        if Topic.UNLOCKED in due:
            due |= self._locked_out
        ids = {key for key in due if isinstance(key, ResourceId)} & self._wanted()
        if ids or due & {Topic.EVERYTHING, Topic.RECORD}:
            self._guarded(Topic.EVERYTHING, lambda: self._look(ids, Topic.EVERYTHING in due))
        if not self.agenda.put_off_for(Topic.POLICIES):
            self._guarded(Topic.POLICIES, self._calendar)

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
            said = KvmstateError(f"{type(error).__name__}: {error}", "this is a bug in kvmstate: please report it")
            self.board.trouble(Concern.BUG, said)
            self.agenda.failed(key)
        else:
            if key is not Topic.POLICIES:
                self.board.trouble(Concern.BUG, None)

    def _fetch(self) -> None:
        assert self._given.fetch
        try:
            with self._taking_time():
                revision, note = self._given.fetch()
        except KvmstateError as error:
            self.board.trouble(Concern.SOURCE, error)
            self.agenda.failed(Topic.SOURCE)
            if self._project is None:
                self.agenda.ask(Topic.MANIFESTS)
            return
        self.board.trouble(Concern.SOURCE, None)
        self.agenda.succeeded(Topic.SOURCE)
        self.agenda.ask(Topic.SOURCE, after=jittered(self._given.every))
        if note:
            self.board.say("HistoryRewritten", note, warning=True)
        if revision != self._fetched or self._desired is None:
            self._fetched = revision
            self.agenda.ask(Topic.MANIFESTS)

    def _load(self) -> None:
        """The manifests as they are now; when they are not whole, the last good ones stay."""
        self._read = time.monotonic()
        try:
            project = self._given.project()
            self._given.found(project)
            if self._project and project.name != self._project.name:
                raise UsageError(
                    f"the project is named {project.name} now, and was {self._project.name}: what is owned by "
                    f"{self._project.name} would be nobody's",
                    "restart `kvmstate run` if that is meant",
                )
            first, self._project = self._project is None, project
            if first:
                self.board.set(project=project.name, host=self._given.uri(project) or default_uri())
                self.agenda.ask(Topic.LISTEN)
            desired = self._given.load()
        except KvmstateError as error:
            self.board.trouble(Concern.MANIFESTS, error)
            if self._project is None:
                self.agenda.failed(Topic.MANIFESTS)
            return
        self.board.trouble(Concern.MANIFESTS, None)
        self.agenda.succeeded(Topic.MANIFESTS)
        before, self._desired = self._desired, desired
        self.board.set(mode=project.reconcile.mode, loaded=datetime.now(UTC))
        if self._fetched and self._fetched != self.board.state.revision:
            self.board.set(revision=self._fetched)
            self.board.say("RevisionInForce", str(self._fetched))
        if before is None or not desired.means_the_same(before):
            self._loaded, self._next_policies = time.monotonic(), None
            self.agenda.ask(Topic.EVERYTHING)
        elif changed := desired.changed(before):
            self._loaded, self._next_policies = time.monotonic(), None
            for id_ in changed:
                self.agenda.succeeded(id_)
            self.agenda.ask(*changed)

    def _listen(self) -> None:
        """Connect anew; then everything may have changed."""
        assert self._project
        if self._events:
            self._events.close()
            self._events = None
        uri = self._given.uri(self._project) or default_uri()
        self._events = Events(uri, self.heard, lambda: self.agenda.ask(Topic.LISTEN))
        self.agenda.succeeded(Topic.LISTEN)
        self.agenda.ask(Topic.EVERYTHING)

    def _look(self, ids: set[ResourceId], whole: bool) -> None:
        if self._project is None or self._events is None:
            return
        started, clock = datetime.now(UTC), time.monotonic()
        with open_host(self._given.uri(self._project)) as host:
            leads = self._leads(host, whole)
            self.board.trouble(Concern.HOST, None)
            if not leads:
                return
            store = open_store(host, self._project.name)
            desired = self._desired or applied_last(self._project, store)
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
                    self.board.trouble(Concern.LOCK, error)
                    self._locked_out |= {Topic.EVERYTHING} if whole else ids
                    self.agenda.ask(Topic.UNLOCKED, after=LOCKED)
                    return
            self.board.trouble(Concern.PLAN, None)
        self._publish(verdict, result, whole)
        done = Pass(
            started,
            time.monotonic() - clock,
            whole,
            len(verdict.plan.changes),
            len(result.done),
            len(result.failed) + len(result.skipped),
        )
        self.board.passed(done)
        if whole:
            self.agenda.succeeded(Topic.EVERYTHING)
            every = jittered(self._project.reconcile.interval)
            self.agenda.ask(Topic.EVERYTHING, after=every)
            next_window = self._project.reconcile.next_window(started)
            next_look = started + timedelta(seconds=every)
            first = not self.board.state.ready
            pools = spaces(verdict.plan)
            self.board.set(ready=True, next_look=next_look, next_window=next_window, pools=pools)
            if first:
                self.board.say("Ready", f"{len(verdict.plan.changes)} resources were looked at")

    def _leads(self, host: Host, renew: bool) -> bool:
        """Whether this is the one that acts for the project. The others stand by, and try again at a look at all."""
        assert self._project
        if self._leadership.held and not renew:
            return True
        lease = 2 * self._project.reconcile.interval + LOCKED
        other = self._leadership.claim(open_keep(host, self._project.name, CLAIM), lease)
        if other != self.board.state.standby:
            self.board.set(standby=other)
            if other:
                self.board.say("StandingBy", f"{other} keeps this project on this host", warning=True)
        if other:
            self.board.set(ready=True)
            self.agenda.ask(Topic.EVERYTHING, after=STANDBY)
        return not other

    def _ruled(self, session: Session, desired: Desired, ids: set[ResourceId] | None) -> Ruled:
        settle = self._loaded + SETTLE - time.monotonic()
        rules = Rules(
            desired.project.reconcile,
            desired.prune,
            datetime.now(UTC),
            session.store.inventory,
            self._backoff,
            EMPTY if not desired.resources else JUST_NOW if settle > 0 else "",
        )
        verdict = ruled(session.plan(desired.options, ids), rules)
        if settle > 0 and (left := [c.id for c in verdict.plan.blocked if c.blocked == JUST_NOW]):
            self.agenda.ask(*left, after=settle + GATHER)
        return verdict

    def _backoff(self, id_: ResourceId) -> str:
        if not self.agenda.put_off_for(id_):
            return ""
        count, _ = self._stops.get(id_, (0, 0))
        known = self.board.state.conditions.get(id_)
        if known and known.failures:
            return known.message
        return f"its guest has stopped by itself {count} times" if count > 1 else "failed before"

    def _apply(self, host: Host, desired: Desired, seen: Ruled) -> tuple[Ruled, Result]:
        """With the lock, what is to be done is looked at once more, and done. Raises Locked."""
        ids = {change.id for change in seen.plan.todo} | {c.id for c in seen.plan.changes if c.unknown}
        ids |= returned(seen.plan, self._known or {})
        with writable(host, seen.plan.project, Writing("run")) as store:
            self.board.trouble(Concern.LOCK, None)
            self._locked_out.clear()
            session = Session(host, store, desired.resources, desired.locate)
            verdict = self._ruled(session, desired, ids)
            before = store.inventory.entries
            plan = replace(verdict.plan, changes=tuple(c for c in verdict.plan.changes if c.id not in verdict.held))

            def heard(event: Event) -> None:
                self.beat = time.monotonic()
                if event.kind is EventKind.DONE:
                    reason, message = told(event.change, before.get(event.change.id))
                    self.board.say(reason, message, event.change.id)

            with self._taking_time():
                result = session.apply(plan, desired.options, heard, PARALLELISM, self.stop, exact=True)
            self._known = dict(store.inventory.entries)
        # what was written, and waits for its window
        result = replace(result, left=tuple(c for c in result.left if c.id not in verdict.lightened))
        if unknown := [c.id for c in plan.changes if c.unknown]:
            self.agenda.ask(*unknown, after=GATHER)
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
        before = self.board.state.conditions
        for index, condition in enumerate(shown):
            id_ = condition.id
            if id_ in self._left:
                self.agenda.ask(id_, after=GATHER)
            elif id_ in failed:
                after = self.agenda.failed(id_)
                next_try: datetime | None = datetime.now(UTC) + timedelta(seconds=after)
                if id_ in reverted:
                    # its guest was disturbed for nothing: not again before its manifest is another one
                    self.agenda.put_off(id_, math.inf)
                    next_try = None
                shown[index] = replace(condition, failures=self.agenda.failures(id_), next_try=next_try)
                if self.agenda.failures(id_) == 1 and not whole:
                    # what it needs may have gone, which no event tells of a volume
                    self.agenda.ask(Topic.EVERYTHING)
            elif id_ not in verdict.held:
                self.agenda.succeeded(id_)
            elif condition.sync is Sync.FAILING and id_ in before and before[id_].failures:
                shown[index] = before[id_]
        if result.done:
            # what failed may have waited for this
            for id_ in {id_ for id_ in verdict.held if self.agenda.failures(id_)}:
                if math.isinf(self.agenda.put_off_for(id_)):
                    continue
                self.agenda.put_off(id_, GATHER)
        if whole:
            known = {condition.id for condition in shown}
            gone |= self.board.state.conditions.keys() - known
        self.board.show([condition for condition in shown if condition.id not in self._left], gone)

    def _calendar(self) -> None:
        """What goes by the clock on the wall."""
        now = datetime.now(UTC)
        # set by hand, or by a time server: all that was reckoned from it is reckoned anew
        jumped = abs((now - self._wall).total_seconds()) > 2 * TICK
        self._wall = now
        state = self.board.state
        if state.next_window and (jumped or now >= state.next_window):
            assert self._project
            self.board.set(next_window=self._project.reconcile.next_window(now))
            waiting = [id_ for id_, c in state.conditions.items() if c.sync is Sync.WAITING]
            self.agenda.ask(*waiting)
        if state.ready and (jumped or self._next_policies is None or now >= self._next_policies):
            self._policies(now)

    def _policies(self, now: datetime) -> None:
        desired = self._desired
        policies = [r for r in desired.resources if r.id.kind == "snapshotpolicy"] if desired else []
        active = [policy for policy in policies if not policy.spec.suspend and policy.spec.when]
        if not desired or not active or desired.project.reconcile.mode == "observe":
            self._next_policies = datetime.max.replace(tzinfo=UTC)
            return
        outcomes: list[Outcome] = []
        uri, resources = self._given.uri(desired.project), desired.resources
        writing = Writing("run")
        with (
            self._taking_time(),
            open_session(uri, desired.project.name, resources, desired.locate, writing) as session,
        ):
            for outcome in session.run_policies(now.replace(microsecond=0), False, lambda text: None):
                self.beat = time.monotonic()
                outcomes.append(outcome)
                address = outcome.machine.id
                if outcome.created:
                    self.board.say("SnapshotTaken", f"{outcome.created} ({outcome.policy.id})", address)
                for name in outcome.deleted:
                    self.board.say("SnapshotDeleted", f"{name} ({outcome.policy.id})", address)
                for error in outcome.errors:
                    message = f"{outcome.policy.id}: {error.message}"
                    self.board.say("SnapshotFailed", message, address, warning=True, hint=error.hint)
        self.board.set(snapshots=newest(outcomes))
        self.agenda.succeeded(Topic.POLICIES)
        self._next_policies = min(policy.spec.when.next(now) for policy in active)
