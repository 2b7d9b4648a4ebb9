"""The composition root: what a command line asks for, put together from the packages below."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from kvmstate.apply import Event, Result, Store, apply_plan, note_agreement, open_lock, open_store
from kvmstate.host import Host, open_host
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Resource
from kvmstate.plan import Options, make_plan
from kvmstate.plan.compare import last_applied
from kvmstate.plan.planner import Locate

# A volume in a pool that is not active is known only after the pool was started: apply plans again then.
PASSES = 3


@dataclass
class Session:
    """One project on one host."""

    host: Host
    store: Store
    resources: tuple[Resource, ...]
    locate: Locate | None = None

    def plan(self, options: Options) -> Plan:
        return make_plan(self.host, self.resources, self.store.inventory, options, self.locate)

    def drift(self) -> Plan:
        """What it would take to bring back what was applied last; the manifests do not count."""
        inventory = self.store.inventory
        applied = [resource for entry in inventory.entries.values() if (resource := last_applied(entry))]
        return make_plan(self.host, applied, inventory)

    def apply(
        self,
        plan: Plan,
        options: Options,
        emit: Callable[[Event], None],
        parallelism: int = 10,
        stop: threading.Event | None = None,
    ) -> Result:
        """Carry out the plan; then what became known on the way; then look whether it all took effect."""
        total = apply_plan(plan, self.host, self.store, emit, parallelism, stop)
        for _ in range(PASSES):
            if not total.ok or not any(_deferred(c) for c in plan.changes):
                break
            self.host.forget()
            plan = self.plan(options)
            result = apply_plan(plan, self.host, self.store, emit, parallelism, stop)
            total.done += result.done
            total.failed += result.failed
            total.skipped += result.skipped
        return total

    def left(self, result: Result, options: Options) -> tuple[Change, ...]:
        """What still differs of what was done: libvirt took it, and did not keep it."""
        self.host.forget()
        done = {change.id for change in result.done if change.action is not Action.ADOPT}
        plan = self.plan(options)
        note_agreement(plan, self.store)
        return tuple(c for c in plan.todo if c.id in done and c.action is not Action.FORGET)


def _deferred(change: Change) -> bool:
    return change.action is Action.NOOP and change.observed is None and change.desired is not None


@dataclass(frozen=True)
class Writing:
    """What a run that may change the host says of itself: it waits up to `timeout` seconds for the project's lock,
    and tells what it waits for. With `repair` it accepts a damaged record, and sets the damaged part aside."""

    command: str
    timeout: float = 0
    told: Callable[[str], None] = lambda _: None
    repair: bool = False


@contextmanager
def open_session(
    uri: str | None,
    project: str,
    resources: Iterable[Resource],
    locate: Locate | None = None,
    writing: Writing | None = None,
) -> Iterator[Session]:
    """Raises ConnectionFailed, Locked, or HostError when the host's record of the project cannot be read.

    A session that applies holds the project's lock while it is open; see `Writing`.
    """
    with open_host(uri) as host, ExitStack() as stack:
        store = None
        if writing:
            lock = open_lock(host, project)
            stack.enter_context(lock.held(writing.command, writing.timeout, writing.told))
            store = open_store(host, project, lock.check, writing.repair)
        yield Session(host, store or open_store(host, project), tuple(resources), locate)
