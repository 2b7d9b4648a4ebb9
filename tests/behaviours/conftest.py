"""One file a behaviour: the listing of this folder is what kvmstate can do. Every test starts on an empty host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, wipe

from kvmstate.sandbox import Sandbox


@pytest.fixture
def project(host: Sandbox, tmp_path: Path) -> Iterator[Project]:
    try:
        yield Project(host, tmp_path / "shop")
    finally:
        wipe(host.uri)
        shutil.rmtree(host.directory / "lib" / "behaviours", ignore_errors=True)


@pytest.fixture
def tiny(guest: Any, tmp_path: Path) -> Guest:
    return Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")


@pytest.fixture
def connection(project: Project) -> Iterator[libvirt.virConnect]:
    """The host as others see it, without kvmstate in between."""
    opened = libvirt.open(project.host.uri)
    yield opened
    opened.close()
