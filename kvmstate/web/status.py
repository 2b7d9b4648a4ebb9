"""The board as JSON: what `/status` answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kvmstate import __version__
from kvmstate.reconcile.status_store import Concern, Condition, Pass, State

FORMAT_VERSION = "1.0"


def status(state: State) -> dict[str, Any]:
    revision = state.revision
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
        "last_pass": _pass(state.last_pass) if state.last_pass else None,
        "last_success": time(state.last_success),
        "next_look": time(state.next_look),
        "next_window": time(state.next_window),
        "counts": {sync.value: count for sync, count in sorted(state.counts().items(), key=lambda c: c[0].value)},
        "troubles": [
            {"reason": concern.value[0], "since": time(since), "message": error.message, "hint": error.hint}
            for concern, (since, error) in state.troubles.items()
        ],
        "resources": [_resource(condition) for _, condition in sorted(state.conditions.items())],
    }


def why_not_ready(state: State) -> list[str]:
    """In words that reveal nothing: empty when the first pass is done (or another daemon acts, and this one stands
    by), the host answers, and nothing is broken."""
    found = [] if state.ready or state.standby else ["FirstPassNotDone"]
    return found + [c.value[0] for c in (Concern.HOST, Concern.BUG) if c in state.troubles]


def _resource(condition: Condition) -> dict[str, Any]:
    return {
        "address": str(condition.id),
        "sync": condition.sync.value,
        "message": condition.message,
        "hint": condition.hint,
        "since": time(condition.since),
        "failures": condition.failures,
        "next_try": time(condition.next_try),
    }


def _pass(done: Pass) -> dict[str, Any]:
    return {**vars(done), "started": time(done.started), "seconds": round(done.seconds, 4)}


def time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
