"""The composition root: what a command line asks for, put together from the packages below.

What only some commands do is imported where they do it: to plan is asked for most often.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kvmstate.apply import Store, open_lock, open_store
from kvmstate.apply.owners import lost, with_owners
from kvmstate.apply.policies import Policies
from kvmstate.apply.rollout import Restarts, noted
from kvmstate.apply.size import without_the_too_large
from kvmstate.errors import KvmstateError
from kvmstate.host import Host, open_host
from kvmstate.kinds import BY_WORD, ON_HOST
from kvmstate.model.change import Action, Change
from kvmstate.model.identity import Claim
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan import Options, make_drift, make_plan, versions
from kvmstate.plan.dependants import with_dependants
from kvmstate.plan.planner import Locate, Seen, check_references, look_ahead

if TYPE_CHECKING:
    from kvmstate.apply import Event, Result
    from kvmstate.host.clients import Client
    from kvmstate.migration.record import Side
    from kvmstate.plan.saved import SavedPlan


@dataclass
class Session:
    """One project on one host."""

    host: Host
    store: Store
    resources: tuple[Resource, ...]
    locate: Locate | None = None
    seen: Seen = field(default_factory=Seen)
    """Of the host, right before: what the first plan need not look at again."""

    def plan(self, options: Options, only: Collection[ResourceId] | None = None) -> Plan:
        """Plan everything, or `only` these; see `make_plan`."""
        inventory = self.store.inventory
        seen, self.seen = self.seen, Seen()
        plan = make_plan(self.host, self.resources, inventory, options, self.locate, only, seen)
        plan = with_owners(without_the_too_large(plan, inventory), self.host)
        plan = replace(plan, changes=with_dependants(plan.changes))
        notes = list(plan.notes)
        notes += [
            f"part {part} of the record is damaged and will be kept as kvmstate:{inventory.project}:damaged-{part}-…; "
            "what only that part knew, and no manifest declares, is nobody's then"
            for part in self.store.damaged
        ]
        notes += self.policies.notes(plan)
        notes += noted(plan, options.rollout, self.resources)
        if not inventory.entries and (note := lost(self.host, inventory.project)):
            notes.append(note)
        return replace(plan, notes=tuple(notes)) if notes else plan

    def wanted(self, options: Options) -> list[Resource]:
        """What the manifests declare, with the volumes and domains that their templates have."""
        return versions.resolved(self.host, self.resources, self.store.inventory, options.moves)[0]

    def addresses(self, plan: Plan) -> dict[ResourceId, list[str]]:
        """The IP addresses of the guests among what a plan has seen to run."""
        seen = [change.observed for change in plan.changes if change.observed and change.observed.running]
        found = self.host.each(lambda each: (each.id, BY_WORD[each.id.kind].ops.addresses(self.host, each)), seen)
        return dict(found)

    def clients(self, plan: Plan) -> dict[ResourceId, Sequence[Client]]:
        """The interfaces on those networks that a plan has seen. Raises HostError."""
        found = {}
        for change in plan.changes:
            if change.observed and (look := BY_WORD[change.id.kind].ops.clients):
                found[change.id] = look(self.host, change.observed)
        return found

    @cached_property
    def policies(self) -> Policies:
        """Those of the manifests."""
        return Policies(self.host, self.store, self.resources)

    def with_leftovers(self, plan: Plan) -> Plan:
        """The plan of all manifests, with notes on what no policy looks after any more."""
        return replace(plan, notes=(*plan.notes, *self.policies.leftovers()))

    def saved(self, plan: Plan, options: Options) -> dict[str, object]:
        """The plan as the content of a file; see `kvmstate.plan.saved`."""
        from kvmstate.plan.saved import saved

        whose = (self.store.identity, self.store.recorded)
        return saved(plan, self.host, self.store.inventory, options, [p.resource for p in self.policies.all], whose)

    def restored(self, plan: SavedPlan, manifests: Callable[[], Sequence[Resource]] = lambda: ()) -> Plan:
        """Make the plan that was saved again. Raises Stale, or PlanError for the plan of another host, or one whose
        secrets the manifests do not have."""
        from kvmstate.plan.saved import restored

        return restored(plan, self.host, self.store.inventory, self.store.recorded, manifests)

    def drift(self, plan: Plan | None = None) -> Plan:
        """What it would take to bring back what was applied last; a `plan` has just looked at the host."""
        seen, self.seen = self.seen, Seen()
        return make_drift(self.host, self.store.inventory, None if plan and plan.left_out else plan, seen)

    def apply(
        self,
        plan: Plan,
        options: Options,
        emit: Callable[[Event], None],
        parallelism: int = 10,
        stop: threading.Event | None = None,
        exact: bool = False,
    ) -> Result:
        """Carry out the plan, then (unless `exact`) what became known on the way; then say what of it is `left`."""
        from kvmstate.apply import EventKind, Recheck

        self._forget_marks(plan)
        with Recheck(self.host, self.store) as recheck:

            def told(event: Event) -> None:
                if event.kind is EventKind.DONE:
                    recheck.add(event.change)
                emit(event)

            result = self._apply(plan, options, told, parallelism, stop, exact)
            if result.done:
                self._settle()
            if result.ok:
                return replace(result, left=recheck.left(), states=recheck.states)
            with suppress(KvmstateError):
                # what became of those that were done counts the next time
                recheck.left()
            return replace(result, states=recheck.states)

    def _settle(self) -> None:
        for kind in ON_HOST:
            if mine := [resource for resource in self.resources if resource.id.kind == kind.word]:
                kind.ops.settled(self.host, mine)

    def _forget_marks(self, plan: Plan) -> None:
        """Somebody has started these machines after a revert, or an installation, of them was cut off: they are in use
        as they are."""
        from kvmstate.host import domains, installation
        from kvmstate.snapshots import underway

        for change in plan.changes:
            if change.id.kind != "domain" or not (change.running and (seen := change.observed)):
                continue
            for mark in (underway, installation):
                if mark.read(seen.xml) and not installation.runs(seen.active_xml):
                    self.store.guard()
                    mark.end(domains.find(self.host.connection, change.id.name))

    def _apply(
        self,
        plan: Plan,
        options: Options,
        emit: Callable[[Event], None],
        parallelism: int,
        stop: threading.Event | None,
        exact: bool,
    ) -> Result:
        from kvmstate.apply import Event, EventKind, Result, apply_plan

        total, ids, unknown = Result(), {c.id for c in plan.changes}, frozenset[ResourceId]()
        while True:
            before, unknown = unknown, frozenset(c.id for c in plan.changes if c.unknown)
            # what nothing made known is gone on without: libvirt says what is the matter
            last = exact or not unknown or unknown == before
            result = apply_plan(
                plan if last else _without(plan, unknown),
                self.host,
                self.store,
                emit,
                parallelism,
                stop,
                self.policies.before,
                Restarts(plan.todo, options.rollout, self.resources, self.policies.unavailable),
            )
            total.done += result.done
            total.failed += result.failed
            total.skipped += result.skipped
            total.waiting += result.waiting
            if last or not total.ok:
                return total
            self.host.forget()
            shown = {c.id for c in plan.todo if c.destroys}
            plan, blocked = self._again(ids, options, shown), {c.id for c in plan.blocked}
            for change in plan.blocked:
                # what the first plan has not shown
                if change.id not in blocked:
                    total.skipped.append((change, f"blocked: {change.blocked}"))
                    emit(Event(EventKind.SKIPPED, change, f"blocked: {change.blocked}", change.hint))

    def _again(self, ids: set[ResourceId], options: Options, shown: Set[ResourceId]) -> Plan:
        """What a new plan says of these; what was deleted meanwhile is left out, and not counted as a deletion. Nothing
        is deleted or replaced but what people were `shown`."""
        counted = replace(options, allow_empty=True, max_deletes=sys.maxsize, max_delete_share=1)
        plan = self.plan(replace(counted, targets=(), excludes=()), ids)
        kept = (c if c.id in shown else _kept(c) for c in plan.changes if c.id in ids)
        return replace(plan, changes=tuple(replace(c, needs=c.needs & ids) for c in kept))


def _kept(change: Change) -> Change:
    """The change, as far as it loses nothing."""
    if change.action is Action.DELETE:
        return replace(change, action=Action.NOOP, reason="it stays: no plan has shown that it would be deleted")
    if change.action is not Action.REPLACE or change.blocked:
        return change
    why = "it would be deleted and created again, which the plan has not shown"
    return replace(change, blocked=why, hint="plan and apply again")


def _without(plan: Plan, unknown: Set[ResourceId]) -> Plan:
    """The plan without what needs the unknown; a plan's changes are in the order of their needs."""
    waiting = set(unknown)
    for change in plan.changes:
        if change.needs & waiting:
            waiting.add(change.id)
    return replace(plan, changes=tuple(c for c in plan.changes if c.id in unknown or c.id not in waiting))


@dataclass(frozen=True)
class Writing:
    """What a run that may change the host says of itself: it waits up to `timeout` seconds for the project's lock,
    and tells what it waits for. With `repair` it accepts a damaged record, and sets the damaged part aside."""

    command: str
    timeout: float = 0
    told: Callable[[str], None] = lambda _: None
    repair: bool = False


def check_references_on(uri: str, resources: Iterable[Resource], locate: Locate) -> None:
    """Check that what the manifests refer to exists on the host. Raises ManifestErrors for references to what is
    neither in the manifests nor on the host, ConnectionFailed."""
    with open_host(uri) as host:
        check_references(host, {r.id: r for r in resources}, locate)


class Ahead(threading.Thread):
    """Connects to a host, reads what a project owns there and looks at that, while manifests are read: the one waits
    for the host, the other computes. Nobody need take what it found: it ends by itself. It changes nothing, and holds
    no lock."""

    def __init__(self, uri: str | None, project: str, closely: bool, asks_uses: bool = False) -> None:
        """For the last two see `Host`."""
        super().__init__(name="ahead", daemon=True)
        self._uri, self._project, self._closely, self._asks_uses = uri, project, closely, asks_uses
        self._opened = ExitStack()
        self._host: Host | None = None
        self._store: Store | None = None
        self._seen = Seen()
        self._error: BaseException | None = None
        self._ended = self._left = self._free = False
        self._deciding = threading.Lock()
        self.start()

    def run(self) -> None:
        try:
            self._host = self._opened.enter_context(open_host(self._uri))
            self._host.closely, self._host.asks_uses = self._closely, self._asks_uses
            self._free = open_lock(self._host, self._project).holder() is None
            self._store = open_store(self._host, self._project)
            self._seen = look_ahead(self._host, self._store.inventory)
        except BaseException as error:
            self._error = error
        with self._deciding:
            self._ended = True
            if self._left:
                self._opened.close()

    def host(self, stack: ExitStack) -> Host:
        """The host, which `stack` closes. Raises ConnectionFailed."""
        self.join()
        stack.push(self._opened.pop_all())
        if self._host is None:
            assert self._error
            raise self._error
        return self._host

    def found(self) -> tuple[Store, Seen]:
        """The record, and what is there of what it says. Raises what went wrong."""
        if self._error:
            raise self._error
        assert self._store
        return self._store, self._seen

    def still(self, store: Store) -> Seen:
        """What was seen, when nobody held the lock by which this record was read, and it is as it was; else nothing:
        another run may have changed what was looked at."""
        same = self._free and self._store is not None and self._store.inventory == store.inventory
        return self._seen if same and not self._error else Seen()

    def leave(self) -> None:
        """Nobody will take it."""
        with self._deciding:
            self._left = True
            if self._ended:
                self._opened.close()


@contextmanager
def open_session(
    uri: str | None,
    project: str,
    resources: Iterable[Resource],
    locate: Locate | None = None,
    writing: Writing | None = None,
    claim: Claim | None = None,
    ahead: Ahead | None = None,
) -> Iterator[Session]:
    """What was begun before, see `Ahead`, is gone on with.

    Raises ConnectionFailed, Locked, HostError when the host's record of the project cannot be read, or PlanError when
    it is that of another one than the `claim` says.

    A session that applies holds the project's lock while it is open; see `Writing`.
    """
    with ExitStack() as stack:
        host = ahead.host(stack) if ahead else stack.enter_context(open_host(uri))
        if writing:
            store = stack.enter_context(writable(host, project, writing, claim))
            seen = ahead.still(store) if ahead else Seen()
        elif ahead:
            store, seen = ahead.found()
            claimed(store, claim)
        else:
            store, seen = claimed(open_store(host, project), claim), Seen()
        yield Session(host, store, tuple(resources), locate, seen)


@contextmanager
def writable(host: Host, project: str, writing: Writing, claim: Claim | None = None) -> Iterator[Store]:
    """The project's record, to be written while its lock is held. Raises Locked, HostError, or PlanError when it is
    that of another one than the `claim` says."""
    lock = open_lock(host, project)
    with lock.held(writing.command, writing.timeout, writing.told):
        yield claimed(open_store(host, project, lock.check, writing.repair), claim)


def claimed(store: Store, claim: Claim | None) -> Store:
    """The record, as what the `claim` says. Raises PlanError when it is that of another one."""
    if claim:
        store.identity = claim.settled(store.project, store.recorded)
    return store


@contextmanager
def both_writable(
    host: Host, source: str, target: str, writing: Writing, claim: Claim
) -> Iterator[tuple[Store, Store]]:
    """The records of two projects, to hand over from the first what `claim` says that it is. Raises Locked, HostError,
    PlanError."""
    with ExitStack() as stack:
        locks = {}
        # in one order, so that two such runs never wait for each other
        for project in sorted({source, target}):
            locks[project] = open_lock(host, project)
            stack.enter_context(locks[project].held(writing.command, writing.timeout, writing.told))
        to = open_store(host, target, locks[target].check)
        # what was cut off before
        to.flush()
        yield claimed(open_store(host, source, locks[source].check), claim), to


@contextmanager
def moving(
    uri: str | None, target_uri: str, project: str, name: str, writing: Writing, claim: Claim
) -> Iterator[tuple[Side, Side]]:
    """The two hosts of a machine's move, and the project's records there, while nobody else moves it. The project's
    locks are held for a moment at a time only: a move may take hours. Raises ConnectionFailed, Locked, HostError,
    PlanError."""
    from kvmstate.apply.keep import open_keep
    from kvmstate.apply.lock import Lock

    with open_host(uri) as source, open_host(target_uri) as target:
        for host in (source, target):
            claimed(open_store(host, project), claim)
        own = Lock(open_keep(source, project, f"move-{name}"), project, what=f"the move of {name}")
        with own.held(writing.command, writing.timeout, writing.told):
            yield _side(source, project, writing, claim), _side(target, project, writing, claim)


def _side(host: Host, project: str, writing: Writing, claim: Claim) -> Side:
    from kvmstate.migration.record import Side

    # what looks at the other one's volumes
    host.closely = True
    return Side(
        host,
        lambda: open_store(host, project).inventory,
        lambda: writable(host, project, writing, claim),
    )
