"""Looking again at what was done: what libvirt took and did not keep is not a success."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

from kvmstate.apply.executor import note_agreement
from kvmstate.apply.inventory import Store
from kvmstate.host import Host
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import ResourceId
from kvmstate.plan import remained
from kvmstate.plan.planner import look_again

# So many are looked at together while others are still being done; fewer wait for the end.
BATCH = 300


class Recheck:
    """Takes changes that are done, one by one; `left` are those that still differ."""

    def __init__(self, host: Host, store: Store) -> None:
        self._host, self._store = host, store
        # in a word, of what has been looked at again
        self.states: dict[ResourceId, str] = {}
        self._done: list[Change] = []
        self._looks: list[Future[list[Change]]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recheck")

    def __enter__(self) -> Recheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, change: Change) -> None:
        if change.desired:
            self._done.append(change)
        if len(self._done) >= BATCH:
            self._look()

    def left(self) -> tuple[Change, ...]:
        """Waits for the last look. Raises HostError."""
        self._look()
        return tuple(change for look in self._looks for change in look.result())

    def _look(self) -> None:
        batch, self._done = self._done, []
        if batch:
            self._looks.append(self._thread.submit(self._differing, batch))

    def _differing(self, batch: list[Change]) -> list[Change]:
        owned = self._store.inventory
        # all that differs is told, also what is not applied again
        entries = {c.id: replace(e, applied=()) for c in batch if (e := owned.get(c.id))}
        plan = look_again(self._host, [c.desired for c in batch if c.desired], Inventory(owned.project, entries))
        note_agreement(plan, self._store, self._host)
        self.states |= {c.id: c.observed.state for c in plan.changes if c.observed}
        for change in plan.todo:
            if entry := owned.get(change.id):
                self._store.put(replace(entry, applied=remained.still(entry, change, self._host.sealing.hide)))
        # what is adopted stays as it is: the next plan shows how it differs
        adopted = {change.id for change in batch if change.action is Action.ADOPT}
        return [change for change in plan.todo if change.id not in adopted]
