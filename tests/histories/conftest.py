"""Histories keep their records apart from the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("machine", "ledger", "unasked")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
