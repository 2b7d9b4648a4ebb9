"""One file a behaviour: the listing of this folder is what kvmstate can do. Every test starts on an empty host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import Guest

from kvmstate.host import connection, uses


@pytest.fixture
def tiny(guest: Any, tmp_path: Path) -> Guest:
    return Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")


@pytest.fixture
def nothing_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read a while ago is read again, sooner on a busy machine: no matter for those who count calls."""
    for module in (connection, uses):
        monkeypatch.setattr(module, "LASTING", 10**6)
