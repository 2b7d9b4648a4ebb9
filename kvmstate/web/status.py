"""The status store as JSON: what `/status` answers."""

from __future__ import annotations

from datetime import datetime

from kvmstate import __version__
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan.reasons import Planned
from kvmstate.reconcile.status_store import ConditionType, ReconcileResult, ResourceStatus, State
from kvmstate.views.values import plain, summary
from kvmstate.xmlbind import Section

FORMAT_VERSION = "1.0"


def status(state: State, only: ResourceId | None = None) -> dict[str, object]:
    """All resources in short, or `only` one of them in full. Raises ValueError for one that is not there."""
    if only and only not in state.resources:
        raise ValueError(f"the daemon knows no {only}")
    revision = state.revision
    conditions = [
        {"reason": condition.value[0], "since": time(since), "message": error.message, "hint": error.hint}
        for condition, (since, error) in state.conditions.items()
    ]
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "project": state.project,
        "host": state.host,
        "mode": state.mode,
        "standby": state.standby or None,
        "ready": not why_not_ready(state),
        "started": time(state.started),
        "revision": {**vars(revision), "time": time(revision.time)} if revision else None,
        "manifests_loaded": time(state.loaded),
        "last_pass": _pass(state.last_result) if state.last_result else None,
        "last_success": time(state.last_success),
        "next_sync": time(state.next_sync),
        "next_window": time(state.next_window),
        "counts": {sync.value: count for sync, count in sorted(state.counts().items(), key=lambda c: c[0].value)},
        "conditions": conditions,
        # names of earlier versions, for one release
        "next_look": time(state.next_sync),
        "troubles": conditions,
        "notes": list(state.notes),
        "resources": [
            _resource(resource, state.desired.get(id_), id_ == only)
            for id_, resource in sorted(state.resources.items())
            if only in (None, id_)
        ],
    }


def why_not_ready(state: State) -> list[str]:
    """In words that reveal nothing: empty when the first pass is done (or another daemon acts, and this one stands
    by), the host answers, and nothing is broken."""
    found = [] if state.ready or state.standby else ["FirstPassNotDone"]
    return found + [c.value[0] for c in (ConditionType.HOST, ConditionType.BUG) if c in state.conditions]


def _resource(resource: ResourceStatus, desired: Resource | None, whole: bool) -> dict[str, object]:
    spec = desired.spec if desired else None
    return {
        "address": str(resource.id),
        "sync": resource.sync.value,
        "message": resource.message,
        "hint": resource.hint,
        "since": time(resource.since),
        "failures": resource.failures,
        "next_try": time(resource.next_try),
        "state": resource.state,
        "plan": _plan(resource.plan, resource.pending) if resource.plan else None,
        "labels": desired.metadata.labels if desired else {},
        "summary": summary(spec) if isinstance(spec, Section) else {},
        **({"spec": plain(spec)[0]} if whole else {}),
    }


def _plan(plan: Planned, pending: bool) -> dict[str, object]:
    """What was last to be done about a resource; while it is pending, its fields differ from the manifest."""
    return {
        "time": time(plan.time),
        "pending": pending,
        "actions": list(plan.action.value.actions),
        "reason": plan.reason,
        "fields": [{"path": row.name, "change": row.symbol, "text": row.text, "cost": row.cost} for row in plan.rows],
        "fields_left_out": plan.more,
    }


def _pass(done: ReconcileResult) -> dict[str, object]:
    return {**vars(done), "started": time(done.started), "seconds": round(done.seconds, 4)}


def time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
