"""What the daemon writes to stderr is log lines, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

LOGGED = """
import sys
from datetime import UTC, datetime
from kvmstate.reconcile.status_store import Event
from kvmstate.reconcile.log import log_to_stderr

class StatusStore:
    def subscribe(self, told):
        told(Event(datetime.now(UTC), "ManifestsInvalid", "two\\nlines", hint="and\\ntwo"))

log_to_stderr(StatusStore(), sys.argv[1] == "json")
"""


def stderr(script: str, *args: str) -> str:
    return subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=True).stderr


def test_a_line_break_in_an_event_is_read_back_from_json() -> None:
    said = json.loads(stderr(LOGGED, "json"))
    assert (said["event"], said["hint"]) == ("two\nlines", "and\ntwo")


def test_an_event_is_one_line_on_a_console() -> None:
    lines = stderr(LOGGED, "console").splitlines()
    assert len(lines) == 1
    assert "two\\nlines" in lines[0]


def test_a_library_that_warns_of_folders_that_come_and_go_is_not_heard() -> None:
    script = """
import warnings
import kvmstate.sources.watch
for module in ("watchdog.observers.inotify", "another"):
    warnings.warn_explicit(f"said by {module}", RuntimeWarning, "file.py", 1, module=module)
"""
    said = stderr(script)
    assert "said by another" in said
    assert "watchdog" not in said
