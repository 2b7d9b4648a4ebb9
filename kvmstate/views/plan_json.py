"""Plans and drift for machines, in the shape that Terraform's users know; schemas/plan.schema.json describes it.

https://developer.hashicorp.com/terraform/internals/json-format#plan-representation
"""

from __future__ import annotations

from typing import Any

from kvmstate import __version__
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.plan.reasons import effect_here
from kvmstate.views.diagnostics import FORMAT_VERSION
from kvmstate.views.values import overlaid, plain, with_unseen
from kvmstate.xmlbind import hides


def plan_object(plan: Plan, drift: Plan) -> dict[str, object]:
    """`plan --json`. `drift` is live against last applied."""
    return {
        **_head(plan),
        "complete": not plan.left_out,
        "resource_changes": [_change(change) for change in plan.changes],
        "resource_drift": _drifted(drift),
        "notes": list(plan.notes),
        "summary": summary(plan),
    }


def drift_object(drift: Plan) -> dict[str, object]:
    """`drift --json`."""
    found = _drifted(drift)
    return {**_head(drift), "resource_drift": found, "summary": {"drifted": len(found), "total": len(drift.changes)}}


def summary(plan: Plan) -> dict[str, int]:
    counts = plan.counts()
    actions = [change.action for change in plan.todo]
    return {
        **{name: counts[name] for name in ("add", "change", "destroy")},
        **{action.value.actions[0]: actions.count(action) for action in Action if action.value.tally},
        "blocked": len(plan.blocked),
        "restart_pending": len(plan.waiting),
        "left_out": len(plan.left_out),
    }


def resource(change: Change) -> dict[str, str]:
    kind = BY_WORD[change.id.kind]
    return {"address": str(change.id), "kind": kind.name, "type": kind.word, "name": change.id.name}


def _head(plan: Plan) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "kvmstate_version": __version__,
        "project": plan.project,
        "host": plan.host,
    }


def _change(change: Change) -> dict[str, object]:
    before = _live(change)
    after = None if change.action is Action.DELETE else overlaid(before, change.spec) if change.spec else before
    waiting = () if change.restarts or change.action not in (Action.NOOP, Action.UPDATE) else change.waiting
    return {
        **resource(change),
        **({"previous_address": str(old)} if (old := change.moved_from or change.copies) else {}),
        "change": _difference(change, list(change.action.value.actions), before, after, change.shown, _field),
        "action_reason": change.reason,
        "blocked": change.blocked,
        "hint": change.hint,
        "restart_pending": [f.where for f in waiting],
    }


def _live(change: Change) -> object:
    return with_unseen(change.observed.config, change.spec, change.fields) if change.observed else None


def _drifted(drift: Plan) -> list[dict[str, object]]:
    return [_drift(change) for change in drift.changes if change.action is not Action.NOOP]


def _drift(change: Change) -> dict[str, object]:
    after = _live(change)
    before = overlaid(after, change.spec)
    actions = list(change.action.value.happened)
    return {**resource(change), "change": _difference(change, actions, before, after, change.shown, _happened)}


def _difference(
    change: Change, actions: list[str], before: object, after: object, fields: tuple[FieldChange, ...], told: Any
) -> dict[str, object]:
    (old, old_marks), (new, new_marks) = plain(before), plain(after)
    return {
        "actions": actions,
        "before": old,
        "after": new,
        "before_sensitive": old_marks,
        "after_sensitive": new_marks,
        "fields": [told(change, f) for f in fields] if before is not None and after is not None else [],
    }


def _field(change: Change, field: FieldChange) -> dict[str, object]:
    return _told(field, field.old, field.new, effect_here(change, field))


def _happened(change: Change, field: FieldChange) -> dict[str, object]:
    return _told(field, field.new, field.old, None)


def _told(field: FieldChange, before: object, after: object, effect: Effect | None) -> dict[str, object]:
    (old, old_mark), (new, new_mark) = plain(before, hides(field)), plain(after, hides(field))
    told = {"path": field.where, "before": old, "after": new, "sensitive": bool(old_mark or new_mark)}
    return told if effect is None else {**told, "effect": str(effect)}
