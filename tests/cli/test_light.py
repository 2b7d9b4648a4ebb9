"""Commands that talk to no host do not load what talks to hosts: they answer at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
from kvmstate.cli import run
run({words!r})
print(sorted(name for name in sys.modules if name in {heavy!r}))
"""
HEAVY = {
    "libvirt",
    "kvmstate.host",
    "kvmstate.apply",
    "rich",
    "prometheus_client",
    "watchdog",
    "structlog",
    "http.server",
    "importlib.metadata",
}


@pytest.mark.parametrize(
    "words", [["--version"], ["validate", "manifests"], ["graph", "manifests"], ["explain", "vm.disks"]], ids=" ".join
)
def test_what_needs_no_host_loads_no_libvirt(words: list[str]) -> None:
    program = LOADED.format(words=words, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout[-500:]


def test_only_the_kinds_that_manifests_have_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "lan.yaml").write_text("apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: lan}\nspec: {}\n")
    models = {f"kvmstate.kinds.{folder.parent.name}.spec" for folder in ROOT.glob("kvmstate/kinds/*/spec.py")}
    assert len(models) > 4
    program = LOADED.format(words=["validate", str(tmp_path)], heavy=models)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['kvmstate.kinds.network.spec']", done.stdout[-500:]


def test_a_verb_loads_no_manifests_and_no_models_of_machines() -> None:
    heavy = {"yaml", "jinja2", "rich", "prometheus_client", "kvmstate.manifest.load", "kvmstate.manifest.project"}
    heavy |= {f"kvmstate.kinds.{folder.parent.name}.spec" for folder in ROOT.glob("kvmstate/kinds/*/spec.py")}
    for words in (["vm", "start", "test"], ["vm", "shutdown", "test"], ["vm", "list"]):
        program = LOADED.format(words=[*words, "-c", "test:///default"], heavy=heavy)
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout[-500:]
