"""Restarts of machines, a few at a time: what a run takes down is back before it takes down more."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from kvmstate.errors import HostError
from kvmstate.host import Host
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.model.rollout import Rollout

PERIOD = 0.2


def restarted(change: Change) -> bool:
    """Whether a machine runs, is stopped for this change, and is to run again."""
    again = change.restarts or (change.running and change.action is Action.REPLACE)
    return again and BY_WORD[change.id.kind].rolls_out and change.spec.runs


def _started(change: Change) -> bool:
    """Whether a machine is there, is off, and is started by this change."""
    is_off = change.action is Action.UPDATE and change.observed is not None and not change.running
    return is_off and BY_WORD[change.id.kind].rolls_out and change.spec.runs


class Restarts:
    """Decides which machines of a plan may be restarted, and when.

    The first is restarted alone, then at most as many at a time as the project's `rollout` lets be down. The next ones
    begin when all of these are back. Before, what is off and is to run is started. When one fails, no other machine is
    taken down any more. Another machine that is down, or not healthy, counts as well: `lacks` tells
    what is the matter with those.
    """

    def __init__(
        self,
        changes: Sequence[Change] = (),
        rollout: Rollout | None = None,
        resources: Sequence[Resource] = (),
        lacks: Callable[[Sequence[Resource]], Iterable[str]] = lambda others: (),
    ) -> None:
        self._min_ready = rollout.min_ready if rollout else 0
        self._restarts = {change.id for change in changes if restarted(change)}
        self._starts = {change.id for change in changes if _started(change)}
        self._coming = set(self._starts)
        # what shuts a machine down begins its restart
        self._of = {change.id: change.stops for change in changes if change.stops}
        self._down: set[ResourceId] = set()
        self._room, self._most, self._first = 0, 0, True
        self._why = ""
        if self._restarts:
            own = [r for r in resources if BY_WORD[r.id.kind].rolls_out and r.spec.runs]
            missing = [*lacks([r for r in own if r.id not in self._restarts | self._starts])]
            limit = (rollout or Rollout()).most(len(own))
            self._most = limit - len(missing)
            if self._most < 1:
                self._why = f"rollout.maxUnavailable is {limit}, and {', '.join(missing[:3])}"

    def next(self, ready: Collection[ResourceId], idle: bool) -> ResourceId | None:
        """The first of these that may begin now; none while they wait for what has begun. Something begins where
        nothing is under way (`idle`)."""
        for id_ in ready:
            machine = self._of.get(id_, id_)
            if machine not in self._restarts or machine in self._down or self._why:
                return id_
        if not ready or (self._coming and not idle):
            return None
        if not self._down:
            self._room, self._first = 1 if self._first else self._most, False
        return next(iter(ready)) if self._room else None

    def refusal(self, id_: ResourceId) -> str:
        """Say why a machine is not restarted; empty for what is none of these."""
        machine = self._of.get(id_, id_)
        return self._why if machine in self._restarts - self._down else ""

    def begin(self, id_: ResourceId) -> None:
        machine = self._of.get(id_, id_)
        if machine in self._restarts - self._down:
            self._room -= 1
            self._down.add(machine)

    def end(self, id_: ResourceId, failed: bool = False) -> None:
        self._down.discard(id_)
        self._coming.discard(id_)
        if failed and self._of.get(id_, id_) in self._restarts | self._starts and not self._why:
            self._why = f"no other machine is restarted: {id_} failed"

    def after(self, change: Change, host: Host) -> Iterator[Step]:
        """What comes after a change's own steps: a look at whether it runs."""
        if change.id in self._restarts | self._starts:
            seconds = self._min_ready
            told = f"see that it runs for {seconds} s" if seconds else "see that it runs"
            yield simple(told, lambda: _stays_up(host, change.id, seconds))


def _stays_up(host: Host, id_: ResourceId, seconds: float) -> None:
    """Raises HostError when the machine does not run for so long."""
    deadline = time.monotonic() + seconds
    while True:
        seen = BY_WORD[id_.kind].ops.observe(host, {id_.name}).get(id_.name)
        if not getattr(seen, "running", False):
            raise HostError(
                "it was started, and has stopped by itself",
                "see the guest's console, and QEMU's log below /var/log/libvirt/qemu on the host",
            )
        if time.monotonic() >= deadline:
            return
        time.sleep(PERIOD)


def noted(plan: Plan, rollout: Rollout, resources: Sequence[Resource]) -> Iterator[str]:
    """What people should know of the restarts of a plan."""
    count = sum(map(restarted, plan.todo))
    if count > 1:
        most = rollout.most(sum(BY_WORD[r.id.kind].rolls_out and r.spec.runs for r in resources))
        rest = f"then at most {most} at a time" if most > 1 else "then one after the other"
        yield f"{count} machines are restarted: the first alone, {rest} (rollout.maxUnavailable)"
