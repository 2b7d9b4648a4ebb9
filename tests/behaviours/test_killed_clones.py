"""An apply that builds a template and makes clones of it is killed at any moment: the next one finishes, and nothing is
left over. `script/trials clones` is a long run of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Project, kvmstate, pool
from test_templates import IMAGE, base, clone, template

pytestmark = pytest.mark.real

KILLS = int(os.environ.get("KVMSTATE_CLONES", "1"))
SEED = int(os.environ.get("KVMSTATE_SEED", "1"))
PARTS = ("root.qcow2", "cloud-init.iso")


def made(**spec: Any) -> dict[str, Any]:
    root = {"name": "root", "create": {"lifecycle": {"deletion": "delete"}}}
    return clone(spec.pop("name"), state="stopped", disks=[root], **spec)


def holds(project: Project, volume: str) -> bytes:
    """What a volume and its base hold."""

    def image(name: str) -> dict[str, Any]:
        return {"driver": "qcow2", "file": {"driver": "file", "filename": str(project.path(f"images/{name}"))}}

    below = base(project, volume)
    said = image(volume) | ({"backing": image(below)} if below else {})
    raw = project.folder / "raw"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", f"json:{json.dumps(said)}", raw], check=True)
    return raw.read_bytes()


def test_what_a_killed_apply_has_begun_is_finished(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # stands for a build, which takes its time
    (tool := tmp_path / "virt-sysprep").write_text("#!/bin/sh\nsleep 0.2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    chance, took = random.Random(SEED), 0.0
    lab, machines = pool(), [made(name="one"), made(name="two", clone="full"), made(name="three")]
    files = {"tiny-v1.qcow2", *(f"{name}-{part}" for name in ("one", "two", "three") for part in PARTS)}
    project.converge(lab)
    for number in range(-1, KILLS):
        image = template(project, build={"compress": False} if chance.random() < 0.5 or number < 0 else None)
        project.write(lab, image, *machines)
        began, when = time.monotonic(), ""
        applying = project.start_apply()
        try:
            applying.wait(chance.uniform(0, took) if number >= 0 else None)
        except subprocess.TimeoutExpired:
            applying.kill()
            applying.wait()
            when = f"kill {number}, seed {SEED}, after {time.monotonic() - began:.2f} s of {took:.2f} s"
        took = took or time.monotonic() - began
        print(when, flush=True)
        applied = project.apply()
        assert applied.code == 0, f"{when}\n{applied}"
        assert project.plan("--prune").code == 0, when
        assert {file.name for file in project.path("images").iterdir()} == files, when
        assert [base(project, f"{name}-root.qcow2") for name in ("one", "two")] == ["tiny-v1.qcow2", ""], when
        assert all(holds(project, f"{name}-root.qcow2") == IMAGE for name in ("one", "two", "three")), when
        gone = kvmstate("destroy", str(project.folder), "--auto-approve", "--exclude", "pool/images")
        assert gone.code == 0, f"{when}\n{gone}"
        assert list(project.path("images").iterdir()) == [], when
