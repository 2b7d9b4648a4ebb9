"""The state of everything, for whoever wants to know: how each resource is, what went wrong, and what happened."""

from __future__ import annotations

import enum
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from kvmstate.errors import KvmstateError
from kvmstate.host.stats import Sample
from kvmstate.kind import Space
from kvmstate.kind.policy import Gauge
from kvmstate.model.printable import in_words
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan.reasons import Planned
from kvmstate.sources.revision import Revision

KEPT_EVENTS = 1000


class Sync(enum.Enum):
    """How a resource is, beside what its manifest says."""

    IN_SYNC = "InSync"
    RESTART_PENDING = "RestartPending"  # written, and taken on with the next power cycle
    DRIFTED = "Drifted"  # differs, and is only observed
    PENDING = "Pending"  # for a change window, a confirmation, or files to rest
    BLOCKED = "Blocked"  # its lifecycle, or something else, forbids what would have to be done
    FAILED = "Failed"  # what was tried failed; it is tried again
    NOT_OWNED = "NotOwned"  # exists on the host, and is not the project's until `kvmstate adopt`
    SUSPENDED = "Suspended"
    ORPHANED = "Orphaned"  # owned, no longer declared, and not to be deleted
    UNKNOWN = "Unknown"  # cannot be seen, such as a volume of an inactive pool


BAD = frozenset({Sync.FAILED, Sync.BLOCKED, Sync.NOT_OWNED, Sync.DRIFTED})


@dataclass(frozen=True)
class ResourceStatus:
    """How a resource is, enough to draw it without asking the host. `since` is when it came to this `sync`; `next_try`
    is when what failed is tried again. `state` is what it does on the host, in a word, empty when it is not there or
    cannot be seen. `plan` is what was last to be done about it, and still is when it is `pending`."""

    id: ResourceId
    sync: Sync
    message: str = ""
    hint: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    failures: int = 0
    next_try: datetime | None = None
    state: str = ""
    plan: Planned | None = None
    pending: bool = False


@dataclass(frozen=True)
class Event:
    """An event in Kubernetes' sense: `reason` is one CamelCase word, `warning` its type; `resource` is an address, or
    empty for what concerns the whole project. `revision` is that of the manifests in force. A `failure` is news for who
    wants to hear of failures, whatever its reason is."""

    time: datetime
    reason: str
    message: str
    resource: str = ""
    warning: bool = False
    revision: str = ""
    hint: str = ""
    failure: bool = False


@dataclass(frozen=True)
class ReconcileResult:
    """One look at resources: how many were looked at (`whole`: all), changed, and failed to change; in seconds."""

    started: datetime
    seconds: float
    whole: bool
    looked: int
    changed: int
    failed: int


class ConditionType(enum.Enum):
    """What can be wrong with all at once. The value is the reason of the event that says so, and of the one that says
    that it is over."""

    SOURCE = ("SourceFailed", "SourceRecovered")
    MANIFESTS = ("ManifestsInvalid", "ManifestsValid")
    HOST = ("HostUnreachable", "HostReachable")
    PLAN = ("PlanFailed", "PlanRecovered")
    LOCK = ("Locked", "Unlocked")
    BUG = ("InternalError", "InternalErrorResolved")


@dataclass(frozen=True)
class State:
    """All that is known at one moment. `ready`: the first pass is done, and the host was reached. `conditions` are what
    is wrong with all at once, since when. `pools` are the active ones, as of the last full check; `gauges` are of the
    last run of policies; `machines` is what those that run use, as of the last look. `desired` is what the manifests in
    force say; `notes` are those of the last plan of everything."""

    project: str = ""
    host: str = ""
    mode: str = "enforce"
    standby: str = ""
    ready: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    revision: Revision | None = None
    loaded: datetime | None = None
    resources: Mapping[ResourceId, ResourceStatus] = field(default_factory=dict)
    conditions: Mapping[ConditionType, tuple[datetime, KvmstateError]] = field(default_factory=dict)
    last_result: ReconcileResult | None = None
    last_success: datetime | None = None
    next_sync: datetime | None = None
    next_window: datetime | None = None
    pools: Mapping[str, Space] = field(default_factory=dict)
    gauges: tuple[Gauge, ...] = ()
    machines: tuple[Sample, ...] = ()
    desired: Mapping[ResourceId, Resource] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def counts(self) -> Counter[Sync]:
        return Counter(resource.sync for resource in self.resources.values())

    def problems(self) -> Iterator[Event]:
        """What is wrong now, as the events that said so."""
        commit = self.revision.commit if self.revision else ""
        for condition, (since, error) in self.conditions.items():
            yield Event(since, condition.value[0], error.message, "", True, commit, error.hint)
        for id_, now in self.resources.items():
            if now.sync in BAD:
                yield Event(now.since, now.sync.value, now.message, str(id_), True, commit, now.hint)


class StatusStore:
    """Thread-safe. Who subscribes is told in the thread of what happens, and must neither take long nor raise."""

    def __init__(self, state: State) -> None:
        self._lock = threading.RLock()
        self._state = state
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._tell: list[Callable[[Event], None]] = []
        self._tell_passes: list[Callable[[ReconcileResult], None]] = []
        self._tell_name: list[Callable[[str], None]] = []

    @property
    def state(self) -> State:
        with self._lock:
            return self._state

    def events(self) -> list[Event]:
        """The latest, oldest first."""
        with self._lock:
            return list(self._events)

    def subscribe(
        self,
        told: Callable[[Event], None] | None = None,
        passes: Callable[[ReconcileResult], None] | None = None,
        named: Callable[[str], None] | None = None,
    ) -> None:
        """`named` is told the project's name, once it is known."""
        self._tell += [told] if told else []
        self._tell_passes += [passes] if passes else []
        self._tell_name += [named] if named else []

    def update(self, **fields: object) -> None:
        with self._lock:
            before, self._state = self._state, replace(self._state, **fields)  # type: ignore[arg-type]
            named = self._state.project if not before.project else ""
        for tell in self._tell_name if named else ():
            tell(named)

    def record_event(
        self,
        reason: str,
        message: str,
        resource: ResourceId | None = None,
        *,
        warning: bool = False,
        hint: str = "",
        revision: Revision | None = None,
        failure: bool = False,
    ) -> None:
        """Something happened, under the revision in force or because of another one."""
        with self._lock:
            revision = revision or self._state.revision
            commit = revision.commit if revision else ""
            address = str(resource) if resource else ""
            happened = Event(datetime.now(UTC), reason, message, address, warning, commit, hint, failure)
            self._events.append(happened)
        for tell in self._tell:
            tell(happened)

    def set_condition(
        self, concern: ConditionType, error: KvmstateError | None, revision: Revision | None = None
    ) -> None:
        """What is wrong with all at once, or None when it is over; said when it begins, changes and ends. `revision` is
        what it is about, by default the one in force."""
        with self._lock:
            conditions = dict(self._state.conditions)
            before = conditions.pop(concern, None)
            if error:
                conditions[concern] = before[0] if before else datetime.now(UTC), error
            self._state = replace(self._state, conditions=conditions)
        failed, over = concern.value
        if error and (before is None or str(before[1]) != str(error)):
            self.record_event(failed, error.message, warning=True, hint=error.hint, revision=revision)
        elif before and not error:
            self.record_event(over, f"it was: {before[1].message}")

    def update_resources(self, conditions: Iterable[ResourceStatus], gone: Iterable[ResourceId] = ()) -> None:
        """How these resources are now; said when that is news. A state that stays keeps its time, and a plan too; one
        that is done stays the last one."""
        news = []
        with self._lock:
            shown = dict(self._state.resources)
            for id_ in gone:
                shown.pop(id_, None)
            for now in conditions:
                before = shown.get(now.id)
                if before and before.plan and now.plan in (None, before.plan):
                    now = replace(now, plan=before.plan)
                if before and (before.sync, before.message) == (now.sync, now.message):
                    now = replace(now, since=before.since)
                else:
                    news.append((before, now))
                shown[now.id] = now
            self._state = replace(self._state, resources=shown)
        for before, now in news:
            self._tell_of(before, now)

    def _tell_of(self, before: ResourceStatus | None, now: ResourceStatus) -> None:
        if now.sync is Sync.IN_SYNC:
            if before and before.sync is not Sync.IN_SYNC:
                word = in_words(before.sync.value)
                # some messages begin with the word
                said = before.message.removeprefix(word).strip()
                was = f"it was {word}" + (f": {said}" if said else "")
                self.record_event("Recovered" if before.sync in BAD else "InSync", was, now.id)
        elif before is None or (before.sync, before.message) != (now.sync, now.message):
            self.record_event(now.sync.value, now.message, now.id, warning=now.sync in BAD, hint=now.hint)

    def record_result(self, done: ReconcileResult) -> None:
        with self._lock:
            ok = not done.failed
            self._state = replace(
                self._state, last_result=done, last_success=done.started if ok else self._state.last_success
            )
        for tell in self._tell_passes:
            tell(done)
