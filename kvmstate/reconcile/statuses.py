"""What a pass makes of each resource, for the status store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvmstate.apply import Result
from kvmstate.errors import KvmstateError
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.plan.reasons import brief, planned
from kvmstate.reconcile.gates import Gated
from kvmstate.reconcile.status_store import ResourceStatus, Sync


def statuses(gated: Gated, result: Result) -> tuple[list[ResourceStatus], set[ResourceId]]:
    """How each resource is after the pass, and which are no longer the project's."""
    failed: dict[ResourceId, KvmstateError] = {change.id: error for change, error in result.failed}
    skipped = {change.id: reason for change, reason in result.skipped}
    left = {change.id: change for change in result.left}
    done = {change.id for change in result.done}
    shown: list[ResourceStatus] = []
    gone: set[ResourceId] = set()
    for change in gated.plan.changes:
        id_ = change.id
        if id_ in failed:
            status = _status(change, Sync.FAILED, failed[id_].message, failed[id_].hint)
        elif id_ in skipped:
            status = _status(change, Sync.FAILED, f"was not tried: {skipped[id_]}")
        elif id_ in left:
            status = _status(left[id_], Sync.FAILED, f"libvirt did not keep what was set: {brief(left[id_])}")
        elif id_ in done and change.desired is None:
            gone.add(id_)
            continue
        else:
            status = _unharmed(change, gated.held.get(id_))
        # what was done is looked at again
        shown.append(replace(status, state=result.states[id_]) if id_ in result.states else status)
    return shown, gone


def _unharmed(change: Change, held: Sync | None) -> ResourceStatus:
    if held or change.blocked:
        blocked = Sync.NOT_OWNED if change.action is Action.ADOPT else Sync.BLOCKED
        return _status(change, held or blocked, change.blocked, change.hint)
    if change.suspended:
        return _status(change, Sync.SUSPENDED, change.reason)
    if change.unknown:
        return _status(change, Sync.UNKNOWN, change.reason)
    if change.waiting and not change.restarts and change.action in (Action.NOOP, Action.UPDATE):
        where = ", ".join(field.where for field in change.waiting)
        return replace(_status(change, Sync.RESTART_PENDING, where), plan=planned(change, change.waiting))
    if change.desired is None:
        return _status(change, Sync.ORPHANED, change.reason)
    return _status(change, Sync.IN_SYNC)


def _status(change: Change, sync: Sync, message: str = "", hint: str = "") -> ResourceStatus:
    state, plan = change.observed.state if change.observed else "", planned(change)
    pending = plan is not None and sync is not Sync.IN_SYNC
    return ResourceStatus(change.id, sync, message, hint, state=state, plan=plan, pending=pending)


def event_of(change: Change, before: Entry | None, sealed: Callable[[Entry], Entry]) -> tuple[str, str]:
    """Reason and message of what was done: drift was corrected where the manifest had been applied already. `sealed`
    says how an entry is recorded."""
    wanted = before and change.desired and sealed(replace(before, specs=(change.desired.written,)))
    same = bool(before and wanted and before.specs == wanted.specs)
    return change.action.value.event or ("DriftCorrected" if same else "Applied"), brief(change)
