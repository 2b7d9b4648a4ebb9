"""A project's policies at work: by the clock, and around changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from kvmstate.apply.inventory import Store
from kvmstate.host import Host
from kvmstate.kind.policy import Gauge, Outcome, Work
from kvmstate.kind.steps import Precaution
from kvmstate.kinds import POLICIES, policies
from kvmstate.model.change import Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Resource
from kvmstate.plan.planner import observe, suspended


class Policies:
    """Those of one project's manifests, on its host."""

    def __init__(self, host: Host, store: Store, resources: Sequence[Resource]) -> None:
        self.all = policies(resources)
        self._host, self._store, self._resources = host, store, resources

    def notes(self, plan: Plan) -> Iterator[str]:
        for policy in self.all:
            yield from policy.notes(plan)

    def leftovers(self) -> Iterator[str]:
        """Notes on what no policy looks after any more. The resources must be all of the project's."""
        for kind in POLICIES:
            yield from kind.policy.leftovers(self._host, self._store.project, self._resources)

    def before(self, change: Change) -> Precaution:
        """All that they want. The last one that takes a change back knows the latest state to go back to."""
        work = self._work(datetime.now(UTC).replace(microsecond=0))
        wanted = [policy.before(work, change) for policy in self.all]
        return Precaution(
            tuple(step for each in wanted for step in each.before),
            tuple(step for each in wanted for step in each.after),
            next((each.undo for each in reversed(wanted) if each.undo), None),
        )

    def unavailable(self, machines: Sequence[Resource]) -> Iterator[str]:
        """What those of these lack that the project owns and should run: one does not, or is not healthy."""
        entries = self._store.inventory.entries
        asked = [each for each in machines if each.id in entries and not suspended(each, entries[each.id])]
        seen = observe(self._host, [each.id for each in asked])
        work = self._work(datetime.now(UTC))
        for each in asked:
            if (found := seen.get(each.id)) is None or found.uuid != entries[each.id].uuid:
                continue
            if not found.running:
                yield f"{each.id} does not run"
            elif lacks := next(filter(None, (policy.lacks(work, each) for policy in self.all)), ""):
                yield f"{each.id} is not healthy: {lacks}"

    def run(self, now: datetime, dry: bool, say: Callable[[str], None]) -> Iterator[Outcome]:
        """Do (unless `dry`) what they ask for at `now`, in UTC, on what the project owns, but for what is suspended.

        An outcome for each policy and resource that it selects, as it is done. Raises ConnectionFailed, Locked.
        """
        active = [policy for policy in self.all if policy.next_due(now)]
        chosen = [(policy, target) for policy in active for target in self._resources if policy.selects(target)]
        entries = self._store.inventory.entries
        seen = observe(self._host, {target.id for _, target in chosen if target.id in entries})
        owned = {id_: observed for id_, observed in seen.items() if observed.uuid == entries[id_].uuid}
        work = self._work(now, dry, say)
        for policy, target in chosen:
            if why := suspended(target, entries.get(target.id)):
                yield Outcome(policy.resource, target, skipped=why)
                continue
            self._store.guard()
            yield policy.run(work, target, owned.get(target.id))

    def metrics(self, outcomes: Sequence[Outcome]) -> tuple[Gauge, ...]:
        """Figures of a run."""
        return tuple(
            gauge
            for policy in self.all
            for gauge in policy.metrics([outcome for outcome in outcomes if outcome.policy is policy.resource])
        )

    def _work(self, now: datetime, dry: bool = False, say: Callable[[str], None] = lambda text: None) -> Work:
        return Work(self._host, self._store.project, now, dry, say)
