"""How everything is, as a running daemon sees it: its `/status`, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kvmstate.model.printable import in_words, one_line
from kvmstate.views.text import aligned, terminal_width

HEAD = ("RESOURCE", "STATE", "SYNC", "SINCE", "NOTE")


def render(state: dict[str, Any]) -> str:
    """Times are local."""
    lines = [_head(state), *_looks(state)]
    if gone := state.get("gone"):
        lines.append(f"! {gone}; waiting for it")
    for condition in state["conditions"]:
        lines += f"! {condition['reason']} since {_time(condition['since'])}: {condition['message']}".split("\n")
        lines += [f"  hint: {condition['hint']}"] if condition["hint"] else []
    rows = [HEAD, *map(_row, state["resources"])]
    return "\n".join([*map(one_line, lines), "", *aligned(rows, terminal_width())])


def _head(state: dict[str, Any]) -> str:
    revision = state["revision"]
    return ", ".join(
        [
            f"project {state['project'] or '?'} on {state['host'] or '?'}",
            f"standby: {state['standby']} is the leader"
            if state["standby"]
            else "ready"
            if state["ready"]
            else "not ready",
            *(["only observed"] if state["mode"] == "observe" else []),
            *([f"revision {revision['commit'][:12]} of {revision['ref']}"] if revision else []),
        ]
    )


def _looks(state: dict[str, Any]) -> list[str]:
    done = state["last_pass"]
    if not done:
        return []
    checked = f"{done['looked']} resource{'' if done['looked'] == 1 else 's'}"
    last = f"last check {_time(done['started'])} ({checked})"
    return [last + (f", next full check {_time(state['next_sync'])}" if state["next_sync"] else "")]


def _row(resource: dict[str, Any]) -> tuple[str, ...]:
    tried = (
        f" (tried {resource['failures']} times, again {_time(resource['next_try'])})" if resource["next_try"] else ""
    )
    note = resource["message"] + tried
    return resource["address"], resource["state"] or "-", in_words(resource["sync"]), _time(resource["since"]), note


def _time(text: str | None) -> str:
    if not text:
        return "-"
    at, now = datetime.fromisoformat(text).astimezone(), datetime.now().astimezone()
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"
