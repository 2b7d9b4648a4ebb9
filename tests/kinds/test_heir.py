"""What a machine keeps of a template that was edited since."""

from __future__ import annotations

from typing import Any

import pytest

from kvmstate.kinds.virtual_machine.heir import kept

ROOT, DATA, SEED = ({"name": name, "volume": f"images/{name}"} for name in ("root", "data", "cloud-init"))
FROM = {"template": "t", "inherited": ["disks", "memory"]}
APPLIED = {**FROM, "memory": 1, "disks": [ROOT]}


@pytest.mark.parametrize(
    ("wanted", "applied", "own", "made"),
    [
        pytest.param({**APPLIED, "memory": 2}, APPLIED, (), APPLIED, id="another default"),
        pytest.param(
            {**APPLIED, "tpm": {}, "inherited": ["disks", "memory", "tpm"]}, APPLIED, (), APPLIED, id="a new default"
        ),
        pytest.param({"template": "t", "inherited": []}, APPLIED, (), APPLIED, id="defaults that have gone"),
        pytest.param(
            {**APPLIED, "memory": 2, "inherited": ["disks"]},
            APPLIED,
            ("memory",),
            {**APPLIED, "memory": 2, "inherited": ["disks"]},
            id="said by the manifest now",
        ),
        pytest.param(
            {**APPLIED, "memory": 2},
            {**APPLIED, "inherited": ["disks"]},
            (),
            {**APPLIED, "memory": 2},
            id="not said by the manifest any more",
        ),
        pytest.param(
            {**APPLIED, "cpus": 2}, {**APPLIED, "cpus": 1}, ("cpus",), {**APPLIED, "cpus": 2}, id="the manifest's own"
        ),
        pytest.param(
            {**APPLIED, "disks": [{**ROOT, "cache": "none"}, DATA], "inherited": ["disks[data]", "memory"]},
            {**APPLIED, "disks": [ROOT, DATA]},
            ("disks", "disks[root]"),
            {**APPLIED, "disks": [{**ROOT, "cache": "none"}, DATA], "inherited": ["disks[data]", "memory"]},
            id="one of its disks is the manifest's by now",
        ),
        pytest.param(
            {**APPLIED, "disks": [ROOT, {**SEED, "serial": "b"}], "controllers": [1]},
            {**APPLIED, "disks": [{**ROOT, "cache": "none"}]},
            ("cloudInit",),
            {**APPLIED, "disks": [{**ROOT, "cache": "none"}, {**SEED, "serial": "b"}], "controllers": [1]},
            id="cloudInit is the manifest's, the disks are the template's",
        ),
        pytest.param(
            {**FROM, "memory": 1, "disks": [ROOT, SEED], "controllers": [1], "inherited": ["cloudInit", "disks"]},
            {**FROM, "memory": 1, "disks": [ROOT]},
            ("memory",),
            {"template": "t", "memory": 1, "disks": [ROOT], "inherited": ["disks"]},
            id="cloudInit has come to the template",
        ),
    ],
)
def test_what_is_kept(wanted: dict[str, Any], applied: dict[str, Any], own: tuple[str, ...], made: Any) -> None:
    assert kept(wanted, applied, own) == made
