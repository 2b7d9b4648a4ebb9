"""A SnapshotPolicy is data: it selects machines of the manifests, and is no object on any host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import Project, kvmstate, resource

from kvmstate.manifest import load


def machine(name: str, **labels: str) -> dict[str, Any]:
    document = resource("VirtualMachine", name, memory="8MiB", state="stopped")
    return document | {"metadata": {"name": name, "labels": labels}}


def policy(name: str = "nightly", selector: Any = None, **spec: Any) -> dict[str, Any]:
    chosen = {"selector": selector or {"names": ["*"]}, "schedule": "@daily", "retention": {"daily": 7}}
    return resource("SnapshotPolicy", name, **{**chosen, **spec})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project("test:///default", tmp_path / "shop")


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({"names": ["web-1", "db"]}, ["db", "web-1"]),
        ({"names": ["web-?"]}, ["web-1", "web-2"]),
        ({"matchLabels": {"tier": "web"}}, ["web-1", "web-2"]),
        ({"matchLabels": {"tier": "web", "stage": "prod"}}, ["web-1"]),
        ({"names": ["*-2"], "matchLabels": {"tier": "web"}}, ["web-2"]),
        ({"names": ["*"]}, ["db", "web-1", "web-2"]),
    ],
)
def test_it_selects_machines_by_names_and_labels(project: Project, selector: Any, chosen: list[str]) -> None:
    project.write(
        resource("Network", "web-1"),
        machine("web-1", tier="web", stage="prod"),
        machine("web-2", tier="web"),
        machine("db"),
        policy(selector=selector),
    )
    resources = load([project.folder / "manifests.yaml"]).resources
    spec = next(r.spec for r in resources if r.id.kind == "snapshotpolicy")
    assert [r.id.name for r in resources if spec.selects(r)] == chosen


def test_a_plan_has_nothing_to_do_for_it(project: Project) -> None:
    project.write(policy())
    planned = project.plan()
    assert (planned.code, planned.out) == (0, "No changes.\n")


def test_validate_notes_a_policy_that_selects_nothing(project: Project) -> None:
    project.write(policy(selector={"names": ["wbe-*"]}), policy("all"), machine("web-1"))
    checked = project.kvmstate("validate")
    assert checked.code == 0
    assert checked.err.splitlines() == [
        f"note: {project.folder}/manifests.yaml:7:5: snapshotpolicy/nightly selects nothing that is in these manifests"
    ]


def test_the_graph_shows_what_it_selects(project: Project) -> None:
    project.write(policy(), machine("web-1"))
    assert '"snapshotpolicy/nightly" -> "domain/web-1"' in project.kvmstate("graph").out


def test_explain_and_the_schema_know_it() -> None:
    said = kvmstate("explain", "SnapshotPolicy.retention.daily").out
    assert "The newest of each of the last so many days that have one." in said
    assert "XML:" not in kvmstate("explain", "SnapshotPolicy.schedule").out
