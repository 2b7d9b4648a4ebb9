"""Every edit in edits.yaml, on a real host: applied, the next plan is empty; taken back, it is empty again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvmstate.app import Session, open_session
from kvmstate.kinds import ALL_KINDS, BY_NAME
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options
from kvmstate.sandbox import Sandbox
from kvmstate.xmlbind import bindings

CASES = yaml.safe_load((Path(__file__).parent / "edits.yaml").read_text())
ALL = Options(prune=True, allow_empty=True, max_deletes=100)
# decided once, when the object is made: their edits are other tests' matter
FIXED = {"Volume": {"pool", "format", "backing", "content", "allocation"}, "StoragePool": {"type"}}

pytestmark = pytest.mark.real


def resource(document: dict[str, Any]) -> Resource:
    kind = BY_NAME[document["kind"]]
    metadata = Metadata.model_validate(document["metadata"])
    spec = kind.adapter.validate_python(document["spec"])
    lifecycle = Lifecycle.model_validate({"deletion": "delete", "replace": "allow", **document.get("lifecycle", {})})
    return Resource(ResourceId(kind.word, spec.id_name(metadata.name)), spec, metadata, lifecycle)


def converge(uri: str, project: str, documents: list[dict[str, Any]]) -> None:
    """Apply, and see that nothing is left to do."""
    with open_session(uri, project, [resource(d) for d in documents]) as session:
        _apply(session)
    with open_session(uri, project, [resource(d) for d in documents]) as session:
        plan = session.plan(ALL)
        assert [(str(c.id), c.action.name, c.blocked, [f.where for f in c.shown]) for c in plan.todo] == []
        assert plan.blocked == ()


def _apply(session: Session) -> None:
    plan = session.plan(ALL)
    assert [(str(c.id), c.blocked) for c in plan.blocked] == []
    result = session.apply(plan, ALL, lambda event: None)
    assert [(str(c.id), str(e)) for c, e in result.failed] == []
    assert result.skipped == []


def edited(documents: list[dict[str, Any]], edit: dict[str, Any]) -> list[dict[str, Any]]:
    """The last document is the one that is edited."""
    documents = copy.deepcopy(documents)
    spec = documents[-1]["spec"]
    for field, value in edit.items():
        if value == "REMOVED":
            spec.pop(field, None)
        else:
            spec[field] = value
    return documents


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_edit_converges_and_so_does_taking_it_back(name: str, host: Sandbox) -> None:
    case = CASES[name]
    project = f"edits-{name}"
    converge(host.uri, project, case["documents"])
    for edit in case["edits"]:
        converge(host.uri, project, edited(case["documents"], edit))
        converge(host.uri, project, case["documents"])
    converge(host.uri, project, [])


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_every_field_of_a_kind_has_an_edit(kind: Any) -> None:
    fields = {b.alias for spec in kind.specs for b in bindings(spec)} - FIXED.get(kind.name, set())
    covered = {
        field
        for case in CASES.values()
        if case["documents"][-1]["kind"] == kind.name
        for edit in case["edits"]
        for field in edit
    }
    assert fields - covered == set()
