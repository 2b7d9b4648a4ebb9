"""Saved plans that somebody has edited: told to be damaged, in bounded time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bounds import bounded
from saved import SAVED

RESOURCE = {"id": "network/n", "metadata": {"name": "n"}, "lifecycle": {}, "spec": {}, "origin": {"file": "m"}}
HOSTILE: dict[str, dict[str, Any]] = {
    "project is a list": {"project": ["x"]},
    "host is a number": {"host": 7},
    "prune is a text": {"prune": "no"},
    "resources are numbers": {"resources": [7]},
    "a resource without a name": {"resources": [{**RESOURCE, "metadata": {}}]},
    "a resource of no kind": {"resources": [{**RESOURCE, "id": "x/y"}]},
    "an address that is a number": {"resources": [{**RESOURCE, "id": 7}]},
    "observed is a list": {"observed": []},
    "observed of numbers": {"observed": {"network/n": 7}},
    "observed without XML": {"observed": {"network/n": {"uuid": "u"}}},
    "observed with XML that is a number": {
        "observed": {"network/n": {"uuid": "u", "xml": 7, "active_xml": None, "calls": {}}}
    },
    "uuids of lists": {"uuids": {"network/n": []}},
    "changes of numbers": {"changes": {"network/n": 7}},
    "changes is a text": {"changes": "x"},
    "left_out of numbers": {"left_out": [7]},
    "moved is a list": {"moved": [1]},
    "moved to a list": {"moved": {"network/a": []}},
    "whose is a number": {"whose": 7},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_edited_plan_is_damaged(name: str, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps(SAVED | HOSTILE[name]))
    done = bounded("apply", "q.json", cwd=tmp_path)
    assert done.code == 1, done
    assert "damaged" in done.err, done


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_deep_plan_is_none(depth: int, tmp_path: Path) -> None:
    text = json.dumps(SAVED | {"observed": "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
    (tmp_path / "q.json").write_text(text)
    done = bounded("apply", "q.json", cwd=tmp_path)
    assert done.code == 1, done
    assert "damaged" in done.err or "nested too deeply" in done.err, done
