"""What is wrong with a secret that machines have from a template is told once, where the template says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmstate.errors import ManifestErrors
from kvmstate.manifest import Manifests, load

MACHINE = "---\napiVersion: kvmstate/v1\nkind: VirtualMachine\nmetadata: {name: NAME}\nspec: {template: golden}\n"


def loaded(tmp_path: Path, password: str, more: str = "") -> Manifests:
    (tmp_path / "golden.yaml").write_text(
        "apiVersion: kvmstate/v1\nkind: Template\nmetadata: {name: golden}\nspec:\n  pool: images\n"
        "  source: {volume: images/debian}\n  defaults:\n    memory: 1GiB\n"
        f"    graphics: [{{type: vnc, password: {{{password}}}}}]\n"
    )
    (tmp_path / "machines.yaml").write_text(MACHINE.replace("NAME", "a") + MACHINE.replace("NAME", "b") + more)
    return load([tmp_path])


def test_one_in_clear(tmp_path: Path) -> None:
    own = MACHINE.replace("NAME", "c").replace("golden}", "golden, graphics: [{type: vnc, password: {clear: b}}]}")
    inherited, said = loaded(tmp_path, "clear: a", own).warnings
    assert inherited.startswith(f"{tmp_path}/golden.yaml:9:")
    assert said.startswith(f"{tmp_path}/machines.yaml:15:")


def test_one_that_nobody_declares(tmp_path: Path) -> None:
    with pytest.raises(ManifestErrors) as refused:
        loaded(tmp_path, "secret: vnc")
    [found] = [each for each in refused.value.problems if "with a value" in each.message]
    assert (found.file, found.line) == (f"{tmp_path}/golden.yaml", 9)
