"""What a policy does around a change of a virtual machine: a snapshot before, a health check after, and the way back.

Nothing is lost on that way: what was written since the snapshot becomes a snapshot of its own, which no policy deletes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvmstate.errors import ConnectionFailed, HostError, KvmstateError, Reverted
from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.kind.health import HealthCheck
from kvmstate.kind.probe import Probe, Unhealthy
from kvmstate.kind.steps import Precaution, Step, simple
from kvmstate.kinds.snapshot_policy.run import Run
from kvmstate.kinds.snapshot_policy.spec import BeforeChange
from kvmstate.model.change import Change
from kvmstate.snapshots.revert import revert

# How the snapshots end that keep what a change that failed has written
FAILED = "-failed"


def precaution(run: Run, change: Change, wanted: BeforeChange) -> Precaution:
    """What a policy wants around a change."""
    each = _Protection(run, change, wanted)
    return Precaution((each.before,), tuple(each.after), each.undo if wanted.revert == "onFailure" else None)


@dataclass
class _Protection:
    run: Run
    change: Change
    wanted: BeforeChange
    # known once the snapshot is taken
    _name: str = field(init=False, default="")
    _ran: str = field(init=False, default="")
    _lacked: str = field(init=False, default="")

    @property
    def before(self) -> Step:
        return simple(f"create a snapshot for {self.run.policy.id}", self._take)

    @property
    def after(self) -> list[Step]:
        check = self.wanted.health_check
        if check is None or self.change.spec.state != "running":
            return []
        return [simple(f"wait until it is healthy, for {check.timeout} s at most", lambda: self._probe(check).wait())]

    def _take(self) -> None:
        assert self.change.desired is not None
        assert self.change.observed is not None
        # not as it was planned: somebody may have started it since
        self._ran = domains.state(self._domain)
        if self.wanted.health_check and self._ran == "running":
            self._lacked = self._probe(self.wanted.health_check).lacks()
        self._name = self.run.take(self.change.desired, self.change.observed)

    def _probe(self, check: HealthCheck) -> Probe:
        return Probe(check, self._domain)

    @property
    def _domain(self) -> Domain:
        return domains.find(self.run.work.host.connection, self.change.id.name)

    def undo(self, error: HostError, say: Callable[[str], None]) -> HostError:
        """Bring the machine back to the snapshot, if its lifecycle lets it. Raises ConnectionFailed."""
        name, machine = self._name, self.change.id.name
        by_hand = f"`kvmstate snapshot revert {machine} {name} --configuration` goes back to before the change"
        if (why := self._refusal(error)) is not None:
            return HostError(f"{error.message}; {self.change.id} was not reverted: {why}", by_hand, error.code)
        try:
            kept = self._go_back(say)
        except ConnectionFailed:
            raise
        except KvmstateError as failure:
            told = f"{error.message}; reverting {self.change.id} to snapshot {name} failed, too: {failure.message}"
            return HostError(told, failure.hint or by_hand, error.code)
        told = f"{error.message}; {self.change.id} was reverted to snapshot {name}, its disks and its configuration"
        hint = error.hint
        if kept:
            told += f"; what was written meanwhile is kept as snapshot {_kept(name)}"
            hint = f"`kvmstate snapshot delete {machine} {_kept(name)}` when nobody needs that; see what it holds first"
        return Reverted(told, hint, error.code)

    def _refusal(self, error: HostError) -> str | None:
        if isinstance(error, Unhealthy) and self._lacked:
            return f"it was not healthy before the change either ({self._lacked})"
        # what this change has started itself may be powered off again
        if self._ran != "stopped" and domains.state(self._domain) != "stopped" and not self._may_restart:
            return "it runs, and lifecycle.restart does not say that it may be restarted"
        return None

    @property
    def _may_restart(self) -> bool:
        return self.change.lifecycle.restart == "now"

    def _go_back(self, say: Callable[[str], None]) -> bool:
        """Whether anything that was written meanwhile is kept as a snapshot."""
        assert self.change.observed is not None
        host, name, machine = self.run.work.host, self._name, self.change.id.name
        if domains.state(self._domain) == "running":
            say("shut down")
            # a guest that does not hear is powered off: what it wrote is kept as it is then
            domains.shutdown(self._domain, self.change.lifecycle.stop.timeout, power_off=True)
        say(f"revert to snapshot {name}")
        kept = revert(host, machine, name, say, configuration=True, state=self._ran, keep=_kept(name))
        domains.set_autostart(self._domain, self.change.observed.calls["autostart"])
        host.forget()
        return kept


def _kept(name: str) -> str:
    # as long as names of snapshots may be
    return f"{name[: 80 - len(FAILED)]}{FAILED}"
