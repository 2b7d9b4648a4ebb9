"""What goes by the clock on the wall, which may jump: change windows, policies."""

from __future__ import annotations

from datetime import UTC, datetime

from kvmstate.kind.policy import Outcome
from kvmstate.kinds import policies
from kvmstate.reconcile.reconciler import Reconciler
from kvmstate.reconcile.status_store import StatusStore, Sync
from kvmstate.reconcile.workqueue import Task, WorkQueue

# The longest (seconds) that nobody looks at the clock
TICK = 30.0


class Scheduler:
    def __init__(self, status: StatusStore, queue: WorkQueue, reconciler: Reconciler) -> None:
        self._status = status
        self._queue = queue
        self._reconciler = reconciler
        self._next_policies: datetime | None = None
        self._last = datetime.now(UTC)

    def reset(self) -> None:
        """Policies may have changed."""
        self._next_policies = None

    def run_due(self, now: datetime) -> None:
        """Do what is due at `now` (UTC). Raises KvmstateError."""
        # set by hand, or by a time server: all that was reckoned from it is reckoned again
        jumped = abs((now - self._last).total_seconds()) > 2 * TICK
        self._last = now
        state = self._status.state
        if state.next_window and (jumped or now >= state.next_window):
            assert self._reconciler.project
            self._status.update(next_window=self._reconciler.project.reconcile.next_window(now))
            waiting = [id_ for id_, c in state.resources.items() if c.sync is Sync.PENDING]
            self._queue.add(*waiting)
        if state.ready and not state.standby and (jumped or self._next_policies is None or now >= self._next_policies):
            self._policies(now)

    def _policies(self, now: datetime) -> None:
        desired = self._reconciler.desired
        times = [at for policy in policies(desired.resources) if (at := policy.next_due(now))] if desired else []
        if not desired or not times or desired.project.reconcile.mode == "observe":
            self._next_policies = datetime.max.replace(tzinfo=UTC)
            return
        outcomes: list[Outcome] = []
        with self._reconciler.writing(desired) as session:
            for outcome in session.policies.run(now.replace(microsecond=0), False, lambda text: None):
                self._reconciler.heartbeat()
                outcomes.append(outcome)
                for event in outcome.events:
                    self._status.record_event(
                        event.reason,
                        event.message,
                        outcome.target.id,
                        warning=event.warning,
                        hint=event.hint,
                        failure=event.warning,
                    )
            self._status.update(gauges=session.policies.metrics(outcomes))
        self._queue.forget(Task.POLICIES)
        self._next_policies = min(times)
