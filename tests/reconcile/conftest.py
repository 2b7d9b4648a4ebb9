"""Daemons for a project on a throw-away host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import daemons
import pytest
from daemons import Daemon
from harness import MAIN, Project, patching

# seconds for which manifests rest before a hasty daemon deletes what has left them: instead of ten
HASTY = 1.0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons wait less for manifests to rest."""
    monkeypatch.setattr(daemons, "MAIN", patching(reconcile__reconciler__SETTLE=str(HASTY)) + MAIN)


@pytest.fixture
def run(project: Project, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons for the project, or another folder, and ends them."""
    started: list[Daemon] = []

    def start(*options: str, folder: Path | None = None, ready: bool = True) -> Daemon:
        given = None if "--git" in options else folder or project.folder
        daemon = Daemon(given, tmp_path / f"run-{len(started)}.log", *options)
        started.append(daemon)
        if ready:
            daemon.says("Ready")
        return daemon

    yield start
    for daemon in started:
        daemon.process.kill()
        daemon.process.wait()
