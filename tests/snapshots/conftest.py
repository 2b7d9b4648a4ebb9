"""A pool of images, and machines on them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import wipe

from kvmstate.sandbox import Sandbox

pytest.register_assert_rewrite("disks", "writing")

POOL = "<pool type='dir'><name>chains</name><target><path>{path}</path></target></pool>"


@pytest.fixture
def connection(host: Sandbox) -> Iterator[libvirt.virConnect]:
    opened = libvirt.open(host.uri)
    yield opened
    opened.close()
    wipe(host.uri)


@pytest.fixture
def folder(connection: libvirt.virConnect, tmp_path: Path) -> Path:
    """A pool that has the same path inside of the host and outside."""
    folder = tmp_path / "chains"
    folder.mkdir()
    connection.storagePoolDefineXML(POOL.format(path=folder)).create()
    return folder


@pytest.fixture
def make(host: Sandbox, connection: libvirt.virConnect, folder: Path) -> Any:
    import disks

    return partial(disks.make, connection, host.uri, folder)
