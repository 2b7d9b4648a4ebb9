"""What goes by the clock on the wall, which may jump: change windows, snapshot policies."""

from __future__ import annotations

from datetime import UTC, datetime

from kvmstate.kinds.snapshot_policy.run import Outcome
from kvmstate.reconcile.reconciler import Keeper
from kvmstate.reconcile.stats import newest
from kvmstate.reconcile.status_store import Board, Sync
from kvmstate.reconcile.workqueue import Agenda, Topic

# The longest (seconds) that nobody looks at the clock
TICK = 30.0


class Calendar:
    def __init__(self, board: Board, agenda: Agenda, keeper: Keeper) -> None:
        self._board = board
        self._agenda = agenda
        self._keeper = keeper
        self._next_policies: datetime | None = None
        self._last = datetime.now(UTC)

    def anew(self) -> None:
        """Policies may have changed."""
        self._next_policies = None

    def look(self, now: datetime) -> None:
        """Do what is due at `now` (UTC). Raises KvmstateError."""
        # set by hand, or by a time server: all that was reckoned from it is reckoned anew
        jumped = abs((now - self._last).total_seconds()) > 2 * TICK
        self._last = now
        state = self._board.state
        if state.next_window and (jumped or now >= state.next_window):
            assert self._keeper.project
            self._board.set(next_window=self._keeper.project.reconcile.next_window(now))
            waiting = [id_ for id_, c in state.conditions.items() if c.sync is Sync.WAITING]
            self._agenda.ask(*waiting)
        if state.ready and not state.standby and (jumped or self._next_policies is None or now >= self._next_policies):
            self._policies(now)

    def _policies(self, now: datetime) -> None:
        desired = self._keeper.desired
        policies = [r for r in desired.resources if r.id.kind == "snapshotpolicy"] if desired else []
        active = [policy for policy in policies if not policy.spec.suspend and policy.spec.when]
        if not desired or not active or desired.project.reconcile.mode == "observe":
            self._next_policies = datetime.max.replace(tzinfo=UTC)
            return
        outcomes: list[Outcome] = []
        with self._keeper.writing(desired) as session:
            for outcome in session.run_policies(now.replace(microsecond=0), False, lambda text: None):
                self._keeper.beat()
                outcomes.append(outcome)
                address = outcome.machine.id
                if outcome.created:
                    self._board.say("SnapshotTaken", f"{outcome.created} ({outcome.policy.id})", address)
                for name in outcome.deleted:
                    self._board.say("SnapshotDeleted", f"{name} ({outcome.policy.id})", address)
                for error in outcome.errors:
                    message = f"{outcome.policy.id}: {error.message}"
                    self._board.say("SnapshotFailed", message, address, warning=True, hint=error.hint)
        self._board.set(snapshots=newest(outcomes))
        self._agenda.succeeded(Topic.POLICIES)
        self._next_policies = min(policy.spec.when.next(now) for policy in active)
