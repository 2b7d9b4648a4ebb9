"""The manifests that come with kvmstate are applied as they are, and the next plan is empty."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Project

from kvmstate.cli import run

pytestmark = pytest.mark.real

EXAMPLES = sorted(file.parent for file in (ROOT / "manifests").rglob("kvmstate.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_converges(
    example: Path, project: Project, guest: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "encryption:" in "".join(file.read_text() for file in example.glob("*.yaml")):
        request.getfixturevalue("quick_encryption")
    project.folder = shutil.copytree(example, tmp_path / "example")
    (key := tmp_path / "key").write_text("a2V5\n")
    named = {name for file in example.glob("*.yaml*") for name in re.findall(r"from: ([\w-]+)", file.read_text())}
    secrets = [f"--secret={name}=file:{key}" for name in named]
    guests = ["--set", f"guest={guest.vmlinuz.parent}"] if [*example.glob("*.j2")] else []
    project.converge(options=("-c", project.host.uri, *guests, *secrets))


def test_what_init_writes_converges(project: Project, tmp_path: Path) -> None:
    project.folder = tmp_path / "mine"
    assert run(["init", str(project.folder)]) == 0
    project.converge(options=("-c", project.host.uri))
