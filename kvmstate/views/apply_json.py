"""An apply under way for machines: one JSON object a line, as Terraform's machine-readable UI has it.

https://developer.hashicorp.com/terraform/internals/machine-readable-ui; schemas/apply.schema.json describes the lines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click

from kvmstate import __version__
from kvmstate.apply import Event, EventKind, Result
from kvmstate.errors import KvmstateError
from kvmstate.model.change import Action
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId
from kvmstate.views import apply, rows
from kvmstate.views.diagnostics import FORMAT_VERSION, diagnostics
from kvmstate.views.formats import Format, Output
from kvmstate.views.plan_json import resource, summary

PROGRESS_SECONDS = 1.0
_TYPES = {
    EventKind.STARTED: "apply_start",
    EventKind.STEP: "apply_progress",
    EventKind.PROGRESS: "apply_progress",
    EventKind.DONE: "apply_complete",
    EventKind.FAILED: "apply_errored",
    EventKind.SKIPPED: "apply_skipped",
}


class Stream:
    """The counterpart of `kvmstate.views.apply.Lines`. Called from several threads."""

    def __init__(self, fmt: Format, verb: str = "Apply", clock: Callable[[], float] = time.monotonic) -> None:
        self._fmt, self._verb = fmt, verb
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[ResourceId, float] = {}
        self._told: dict[ResourceId, float] = {}

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None: ...

    def plan(self, plan: Plan) -> None:
        for change in plan.changes:
            if change.action is not Action.NOOP:
                text = f"{change.id}: plan to {' and '.join(change.action.value.actions)}"
                told = {
                    "resource": resource(change),
                    "actions": change.action.value.actions,
                    "action_reason": change.reason,
                }
                _say(self._fmt, "planned_change", text, change={**told, "blocked": change.blocked, "hint": change.hint})
        _say(self._fmt, "change_summary", rows.summary(plan), changes={**summary(plan), "operation": "plan"})

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        id_, now = event.change.id, self._clock()
        since = self._since.setdefault(id_, now)
        if event.kind is EventKind.PROGRESS:
            if now - self._told.get(id_, since) < PROGRESS_SECONDS:
                return
            self._told[id_] = now
        hook: dict[str, object] = {"resource": resource(event.change), "actions": event.change.action.value.actions}
        hook["elapsed_seconds"] = round(now - since, 3)
        if event.text:
            hook["text"] = event.text
        if event.kind is EventKind.PROGRESS:
            hook |= {"done_bytes": event.done, "total_bytes": event.total}
        text = f"{id_}: {event.kind.value}{': ' + event.text if event.text else ''}"
        _say(self._fmt, _TYPES[event.kind], text, "error" if event.kind is EventKind.FAILED else "info", hook=hook)

    def outcome(self, result: Result, blocked: int = 0) -> None:
        for change, error in result.failed:
            say_error(self._fmt, error, str(change.id))
        for error, address in apply.not_kept(result):
            say_error(self._fmt, error, address)
        added, changed, destroyed = apply.counts(result)
        totals = {"add": added, "change": changed, "destroy": destroyed, "failed": len(result.failed)}
        totals |= {"skipped": len(result.skipped), "blocked": blocked}
        text = apply.headline(result, self._verb, blocked)
        _say(self._fmt, "change_summary", text, changes={**totals, "operation": "apply"})


def say_version(fmt: Format) -> None:
    """The first line, whatever comes after it."""
    _say(fmt, "version", f"kvmstate {__version__}", kvmstate=__version__, format_version=FORMAT_VERSION)


def say_error(fmt: Format, error: KvmstateError, address: str = "") -> None:
    for problem in diagnostics(error, **({"address": address} if address else {})):
        _say(fmt, "diagnostic", f"error: {problem['message']}", "error", diagnostic=problem)


def _say(fmt: Format, type_: str, text: str, level: str = "info", **more: object) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"@level": level, "@message": text, "@timestamp": now, "type": type_, **more}
    click.echo(fmt.item(Output(lambda: line, lambda: text)))
