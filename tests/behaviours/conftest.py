"""One file a behaviour: the listing of this folder is what kvmstate can do. Every test starts on an empty host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import Guest


@pytest.fixture
def tiny(guest: Any, tmp_path: Path) -> Guest:
    return Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")
