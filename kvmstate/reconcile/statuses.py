"""What a pass makes of each resource, for the status store."""

from __future__ import annotations

from kvmstate.apply import Result
from kvmstate.errors import KvmstateError
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.gates import Gated
from kvmstate.reconcile.status_store import ResourceStatus, Sync
from kvmstate.views.rows import brief


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
            shown.append(ResourceStatus(id_, Sync.FAILING, failed[id_].message, failed[id_].hint))
        elif id_ in skipped:
            shown.append(ResourceStatus(id_, Sync.FAILING, f"was not tried: {skipped[id_]}"))
        elif id_ in left:
            shown.append(ResourceStatus(id_, Sync.FAILING, f"libvirt did not keep what was set: {brief(left[id_])}"))
        elif id_ in done and change.desired is None:
            gone.add(id_)
        else:
            shown.append(_unharmed(change, gated.held.get(id_)))
    return shown, gone


def _unharmed(change: Change, held: Sync | None) -> ResourceStatus:
    if held or change.blocked:
        return ResourceStatus(change.id, held or Sync.BLOCKED, change.blocked, change.hint)
    if change.suspended:
        return ResourceStatus(change.id, Sync.SUSPENDED, change.reason)
    if change.unknown:
        return ResourceStatus(change.id, Sync.UNKNOWN, change.reason)
    if change.waiting and not change.restarts and change.action in (Action.NOOP, Action.UPDATE):
        return ResourceStatus(change.id, Sync.RESTART_PENDING, ", ".join(field.where for field in change.waiting))
    if change.desired is None:
        return ResourceStatus(change.id, Sync.LEFT, change.reason)
    return ResourceStatus(change.id, Sync.IN_SYNC)


def event_of(change: Change, before: Entry | None) -> tuple[str, str]:
    """Reason and message of what was done: drift was corrected where the manifest had been applied already."""
    same = bool(before and change.desired and before.specs == (change.desired.written,))
    reasons = {Action.DELETE: "Deleted", Action.FORGET: "Forgotten"}
    return reasons.get(change.action, "DriftCorrected" if same else "Applied"), brief(change)
