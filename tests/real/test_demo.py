"""The demo is the tour: plan, apply, a live edit with the guest's own view, drift, destroy. It checks itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.real
def test_the_demo_runs_to_its_end() -> None:
    done = subprocess.run([ROOT / "script" / "demo"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "The same boot: nothing restarted." in done.stdout
    assert "Plan: 1 to add, 1 to change, 0 to destroy." in done.stdout
