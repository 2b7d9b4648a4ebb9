"""The README's examples are what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def kvmstate(*args: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from kvmstate.cli import main; main()", *args]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def test_validate_prints_what_the_tour_shows() -> None:
    shown = re.search(r"\$ kvmstate validate manifests\n    (.+)\n", README)
    assert shown
    assert kvmstate("validate", "manifests").stdout.strip() == shown[1]


def test_every_command_that_the_readme_names_exists() -> None:
    table = README.split("| command | does |")[1].split("\n\n")[0]
    for name in re.findall(r"`([a-z]+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:])):
        assert kvmstate(name, "--help").returncode == 0, name
