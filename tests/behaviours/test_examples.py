"""The manifests that come with kvmstate are applied as they are, and the next plan is empty."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Project

from kvmstate.cli import run

pytestmark = pytest.mark.real

EXAMPLES = sorted(file.parent for file in (ROOT / "manifests").rglob("kvmstate.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_converges(example: Path, project: Project, guest: Any, tmp_path: Path) -> None:
    project.folder = shutil.copytree(example, tmp_path / "example")
    project.converge(options=("-c", project.host.uri, "--set", f"guest={guest.vmlinuz.parent}"))


def test_what_init_writes_converges(project: Project, tmp_path: Path) -> None:
    project.folder = tmp_path / "mine"
    assert run(["init", str(project.folder)]) == 0
    project.converge(options=("-c", project.host.uri))
