"""A snapshot policy at work: see `kvmstate.kind.policy`. What it selects, and when it is due, is told without libvirt,
which is loaded with what works on a host. Every plan asks what policies have left: their models are loaded only where
there are some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from kvmstate.kind.policy import Gauge, Outcome, Told, Work
from kvmstate.kind.steps import Precaution
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Observed, Resource

if TYPE_CHECKING:
    from kvmstate.host import Host
    from kvmstate.kinds.snapshot_policy.spec import BeforeChange, SnapshotPolicySpec


class Policy:
    """Takes snapshots of machines, and deletes those that its retention drops."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._spec: SnapshotPolicySpec = resource.spec

    def selects(self, resource: Resource) -> bool:
        return self._spec.selects(resource)

    def next_due(self, after: datetime) -> datetime | None:
        if self._spec.suspend:
            return None
        from kvmstate.model.schedule import time_zone

        return self._spec.when.next(after).astimezone(time_zone(self._spec.time_zone))

    def run(self, work: Work, target: Resource, observed: Observed | None) -> Outcome:
        from kvmstate.kinds.snapshot_policy.run import Run

        outcome = Run(self.resource, work).outcome(target, observed)
        return replace(outcome, events=tuple(_told(outcome)))

    def before(self, work: Work, change: Change) -> Precaution:
        from kvmstate.kinds.snapshot_policy.protect import precaution
        from kvmstate.kinds.snapshot_policy.run import Run

        wanted = self._around(change)
        return precaution(Run(self.resource, work), change, wanted) if wanted else Precaution()

    def lacks(self, work: Work, target: Resource) -> str:
        wanted = self._spec.before_changes(running=True) if self.selects(target) else None
        if wanted is None or wanted.health_check is None:
            return ""
        from kvmstate.host import domains
        from kvmstate.kind.probe import Probe

        return Probe(wanted.health_check, domains.find(work.host.connection, target.id.name)).lacks()

    def notes(self, plan: Plan) -> Iterator[str]:
        for change in plan.todo:
            if wanted := self._around(change):
                back = ", and brings it back when that fails" if wanted.revert == "onFailure" else ""
                yield f"{self.resource.id} takes a snapshot of {change.id} before it is changed{back}"

    def _around(self, change: Change) -> BeforeChange | None:
        """What it wants around a change. libvirt renames no domain that has snapshots."""
        machine = change.desired
        if machine is None or change.action is not Action.UPDATE or change.moved_from or not self.selects(machine):
            return None
        return self._spec.before_changes(change.running)

    def metrics(self, outcomes: Sequence[Outcome]) -> Iterator[Gauge]:
        """How old the newest snapshot is: of the machine where it is oldest. Nothing while a machine has none."""
        newest = []
        for outcome in outcomes:
            if outcome.skipped and not outcome.verdicts:
                continue
            times = [verdict.made.at for verdict in outcome.verdicts if verdict.made.name not in outcome.deleted]
            if not times:
                return
            newest.append(max(times))
        if newest:
            yield Gauge(
                "snapshot_newest_age_seconds",
                "Since a policy took its newest snapshot of the machine where that is longest ago.",
                min(newest),
                {"policy": self.resource.id.name},
            )

    @staticmethod
    def leftovers(host: Host, project: str, resources: Iterable[Resource]) -> Iterator[str]:
        from kvmstate.kinds.snapshot_policy import left
        from kvmstate.snapshots.of_policies import of_policies

        return left.notes(of_policies(host, project), resources)


def _told(outcome: Outcome) -> Iterator[Told]:
    policy = outcome.policy.id
    if outcome.created:
        yield Told("SnapshotTaken", f"{outcome.created} ({policy})")
    for name in outcome.deleted:
        yield Told("SnapshotDeleted", f"{name} ({policy})")
    for error in outcome.errors:
        yield Told("SnapshotFailed", f"{policy}: {error.message}", warning=True, hint=error.hint)
