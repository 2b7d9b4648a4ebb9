"""A box for all tests here; script/systemd-test makes the tree that it boots."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box, Unit

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    tree = os.environ.get("KVMSTATE_SYSTEMD_TREE")
    if not tree:
        pytest.skip("needs a tree to boot: script/systemd-test makes it, and runs this")
    box = Box(Path(tree))
    yield box
    box.close()


@pytest.fixture
def unit(box: Box) -> Iterator[Unit]:
    """A project of its own for each test."""
    unit = Unit(box, f"lab-{next(_numbers)}")
    yield unit
    box.sh(f"systemctl kill --signal=KILL {unit.name}; systemctl stop {unit.name}")
