"""What machines read of snapshots, held to its schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import Project, idle, kvmstate, resource
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from kvmstate.sandbox import Sandbox

if TYPE_CHECKING:
    from disks import Machine

pytestmark = pytest.mark.real

SCHEMAS = Path(__file__).parents[2] / "schemas"
NAMES = ("plan", "snapshots", "snapshot-run")
CONTENTS = {f"{name}.schema.json": json.loads((SCHEMAS / f"{name}.schema.json").read_text()) for name in NAMES}
REGISTRY: Registry[Any] = Registry().with_resources(
    (name, Resource.from_contents(content)) for name, content in CONTENTS.items()
)


def valid(schema: str, out: str) -> dict[str, Any]:
    """What a command has said, as its schema has it."""
    said: dict[str, Any] = json.loads(out)
    Draft202012Validator(CONTENTS[f"{schema}.schema.json"], registry=REGISTRY).validate(said)
    return said


def test_snapshots_are_as_their_schema_says(make: Callable[..., Machine]) -> None:
    vm = make(disks=2, running=True)
    assert valid("snapshots", vm.done("list", "--json").out)["machines"][0]["snapshots"] == []
    vm.done("create", "--name", "one", "--disk", "vda", "--description", "before the upgrade")
    vm.done("create", "--name", "two", "--memory")
    (machine,) = valid("snapshots", vm.done("tree", "--json").out)["machines"]
    assert [(s["name"], s["parent"], s["memory"]) for s in machine["snapshots"]] == [
        ("one", None, False),
        ("two", "one", True),
    ]
    assert [len(disk["chain"]) for disk in machine["disks"]] == [3, 2]
    vm.domain.setMemoryFlags(16 << 10, 2)
    shown = valid("snapshots", vm.done("show", "one", "--json").out)
    assert (shown["description"], shown["policy"]) == ("before the upgrade", None)
    assert shown["files"].keys() == {"vda"}
    refused = vm.snapshot("show", "three", "--json")
    assert refused.code == 1
    assert "has no snapshot three" in valid("snapshots", refused.out)["diagnostics"][0]["message"]


def test_what_policies_did_is_as_its_schema_says(host: Sandbox, folder: Path, tmp_path: Path) -> None:
    project = Project(host, tmp_path / "shop")
    documents = [
        resource("StoragePool", "images", type="dir", target={"path": str(tmp_path / "images")}),
        resource("Volume", "web", pool="images", capacity="4MiB"),
        idle("web", state="stopped", disks=[{"name": "root", "volume": "images/web"}]),
    ]
    chosen = {"selector": {"names": ["*"]}, "retention": {"keepLast": 1}, "schedule": "@daily"}
    policies = [
        resource("SnapshotPolicy", "daily", **chosen),
        resource("SnapshotPolicy", "off", suspend=True, **chosen),
        resource("SnapshotPolicy", "running", onlyIfRunning=True, **chosen),
        resource("SnapshotPolicy", "fails", disks=["data"], **chosen),
    ]
    project.converge(*documents, *policies)
    for day in (1, 2):
        for option in ("--dry-run", "--json"):
            run = project.kvmstate("snapshot run", "--at", f"2026-05-0{day}T12:00", "--json", option)
            assert run.code == 1
            said = valid("snapshot-run", run.out)
    assert (said["errored"], said["dry_run"]) == (True, False)
    assert said["diagnostics"][0]["policy"] == "snapshotpolicy/fails"
    told = {policy["address"].removeprefix("snapshotpolicy/"): policy for policy in said["policies"]}
    daily, off, running, fails = (told[name] for name in ("daily", "off", "running", "fails"))
    assert daily["domains"][0]["deleted"] == ["daily-20260501T120000Z"]
    assert (off["next"], off["domains"]) == (None, [])
    assert running["domains"][0]["skipped"] == "it is not running"
    assert fails["domains"][0]["snapshots"] == []
    listed = kvmstate("snapshot", "list", "--json", "-c", project.uri)
    (snapshot,) = valid("snapshots", listed.out)["machines"][0]["snapshots"]
    assert snapshot["policy"] == {"project": "shop", "name": "daily", "at": "2026-05-02T12:00:00Z"}
    project.write(*documents, resource("SnapshotPolicy", "daily", **{**chosen, "schedule": "never"}))
    wrong = project.kvmstate("snapshot run", "--json")
    assert (wrong.code, valid("snapshot-run", wrong.out)["errored"]) == (1, True)
