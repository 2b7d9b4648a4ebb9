"""`kvmstate run` in a process of its own, on a throw-away host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import MAIN, ROOT, until


class Daemon:
    """What it says is read from its log; `mark` is the place in it from which on `says` looks."""

    def __init__(self, folder: Path | None, log: Path, *options: str) -> None:
        self._log = log
        self.env = {"XDG_RUNTIME_DIR": str(log.parent / "run"), "XDG_STATE_HOME": str(log.parent / "state")}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"import faulthandler, signal; faulthandler.register(signal.SIGUSR1); {MAIN}",
                    "run",
                    *([str(folder)] if folder else []),
                    "--log-format",
                    "json",
                    *options,
                ],
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.env},
                stdout=file,
                stderr=file,
            )
        self._mark = 0

    def events(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().split("\n")[:-1]
        assert "bug in kvmstate" not in "".join(lines), lines
        return [json.loads(line) for line in lines]

    def mark(self) -> None:
        """From here on."""
        self._mark = len(self.events())

    def since(self) -> list[dict[str, Any]]:
        return self.events()[self._mark :]

    def says(self, reason: str, resource: str = "", seconds: float = 30) -> dict[str, Any]:
        """Wait for an event since the mark."""

        def found() -> dict[str, Any] | None:
            known = (e for e in self.since() if e["reason"] == reason and e.get("resource", "") == resource)
            return next(known, None)

        try:
            event: dict[str, Any] = until(found, reason, seconds)
        except AssertionError:
            raise AssertionError(f"no {reason} {resource} in {self._log.read_text()}") from None
        return event

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            # where it hangs
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(self._log.read_text()) from None
