"""A project on libvirt's test driver, which forgets all once its last connection is closed."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml

from kvmstate.cli import run

POOL = {"kind": "StoragePool", "metadata": {"name": "images"}, "spec": {"type": "dir", "target": {"path": "/images"}}}
VOLUME = {"kind": "Volume", "metadata": {"name": "root"}, "spec": {"pool": "images", "capacity": "64MiB"}}
MACHINE = {
    "kind": "VirtualMachine",
    "metadata": {"name": "web-1"},
    "spec": {
        "state": "stopped",
        "memory": "128MiB",
        "cpus": 1,
        "disks": [{"name": "root", "volume": "images/root"}],
        "interfaces": [{"bridge": "br0"}],
        "xml": {"./devices/graphics[@type='vnc']/@passwd": "hunter2"},
    },
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Project:
    """Manifests in the current folder, and the command line over them."""

    folder: Path
    connection: Any
    capsys: pytest.CaptureFixture[str]

    def write(self, *documents: dict[str, Any]) -> None:
        whole = [{"apiVersion": "kvmstate/v1", **document} for document in documents]
        (self.folder / "all.yaml").write_text(yaml.safe_dump_all(whole))

    def __call__(self, *args: str) -> Done:
        self.capsys.readouterr()
        code = run(list(args))
        return Done(code, *self.capsys.readouterr())


@pytest.fixture
def kvmstate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    # errors of an earlier test may hold its frames, and so its connection
    gc.collect()
    connection = libvirt.open("test:///default")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "kvmstate.yaml").write_text("project: shop\n")
    project = Project(folder, connection, capsys)
    project.write(POOL, VOLUME, MACHINE)
    yield project
    connection.close()
