"""What machines read: `plan --json`, `drift --json` and `apply --json`, held to their schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.artefacts.conftest import MACHINE, POOL, VOLUME, Project

SCHEMAS = Path(__file__).parents[2] / "schemas"
PLAN, APPLY = (json.loads((SCHEMAS / f"{name}.schema.json").read_text()) for name in ("plan", "apply"))
REGISTRY: Registry[Any] = Registry().with_resource("plan.schema.json", Resource.from_contents(PLAN))
PLAN_SCHEMA = Draft202012Validator(PLAN)
APPLY_SCHEMA = Draft202012Validator(APPLY, registry=REGISTRY)


def planned(project: Project, *args: str) -> dict[str, Any]:
    answer = project("plan", "--json", *args).json
    PLAN_SCHEMA.validate(answer)
    return {change["address"]: change for change in answer["resource_changes"]}


def edited(**spec: Any) -> dict[str, Any]:
    machine = copy.deepcopy(MACHINE)
    machine["spec"].update(spec)
    return machine


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(PLAN)
    Draft202012Validator.check_schema(APPLY)


def test_what_is_to_be_made_has_no_before(kvmstate: Project) -> None:
    change = planned(kvmstate)["volume/images/root"]
    assert (change["kind"], change["type"], change["name"]) == ("Volume", "volume", "images/root")
    assert change["change"]["actions"] == ["create"]
    assert change["change"]["before"] is None
    assert change["change"]["after"] == {"pool": "images", "format": "qcow2", "capacity": 64 << 20}


def test_after_an_apply_all_is_no_op(kvmstate: Project) -> None:
    assert kvmstate("apply", "--auto-approve").code == 0
    answer = kvmstate("plan", "--json", "--detailed-exitcode")
    assert answer.code == 0
    for change in answer.json["resource_changes"]:
        assert change["change"]["actions"] == ["no-op"]
        assert change["change"]["before"] == change["change"]["after"]
    assert answer.json["resource_drift"] == []
    assert answer.json["summary"]["change"] == 0


def test_an_edit_tells_its_fields_and_what_they_cost(kvmstate: Project) -> None:
    kvmstate.write(POOL, VOLUME, edited(state="running"))
    kvmstate("apply", "--auto-approve")
    kvmstate.write(POOL, VOLUME, edited(state="running", cpus=2, title="new"))
    change = planned(kvmstate)["domain/web-1"]
    fields = {field["path"]: field for field in change["change"]["fields"]}
    assert change["change"]["actions"] == ["update"]
    assert (fields["cpus"]["before"], fields["cpus"]["after"], fields["cpus"]["effect"]) == (1, 2, "restart")
    assert (fields["title"]["before"], fields["title"]["after"], fields["title"]["effect"]) == (None, "new", "live")
    assert (change["change"]["before"]["cpus"], change["change"]["after"]["cpus"]) == (1, 2)
    assert "cpus" in change["restart_pending"]


def test_a_replacement_deletes_then_creates(kvmstate: Project) -> None:
    kvmstate("apply", "--auto-approve")
    raw = {**VOLUME, "lifecycle": {"replace": "allow"}, "spec": {**VOLUME["spec"], "format": "raw"}}
    kvmstate.write(POOL, raw, MACHINE)
    assert planned(kvmstate)["volume/images/root"]["change"]["actions"] == ["delete", "create"]
    kvmstate.write(POOL, {**raw, "lifecycle": {}}, MACHINE)
    change = planned(kvmstate)["volume/images/root"]
    assert "format cannot change without deleting it" in change["blocked"]
    assert "lifecycle.replace" in change["hint"]


def test_what_leaves_the_manifests_has_no_after(kvmstate: Project) -> None:
    kvmstate("apply", "--auto-approve")
    kvmstate.write(POOL, VOLUME)
    change = planned(kvmstate, "--prune")["domain/web-1"]
    assert (change["change"]["actions"], change["change"]["after"]) == (["delete"], None)
    assert change["change"]["before"]["memory"] == 128 << 20
    assert change["action_reason"] == "removed from the manifests"


def test_drift_is_told_apart_from_what_the_manifests_ask_for(kvmstate: Project) -> None:
    kvmstate("apply", "--auto-approve")
    kvmstate.connection.lookupByName("web-1").setMemoryFlags(64 << 10, 2)
    kvmstate.connection.storagePoolLookupByName("images").setAutostart(1)
    kvmstate.write(POOL, VOLUME, edited(title="new"))
    answer = kvmstate("plan", "--json").json
    (drift,) = answer["resource_drift"]
    assert drift["address"] == "domain/web-1"
    assert drift["change"]["fields"] == [{"path": "memory", "before": 128 << 20, "after": 64 << 20, "sensitive": False}]
    alone = kvmstate("drift", "--json")
    PLAN_SCHEMA.validate(alone.json)
    assert (alone.code, alone.json["resource_drift"]) == (2, [drift])
    assert alone.json["summary"] == {"drifted": 1, "total": 3}


def test_what_has_gone_from_the_host_was_deleted(kvmstate: Project) -> None:
    kvmstate("apply", "--auto-approve")
    kvmstate.connection.lookupByName("web-1").undefine()
    (drift,) = kvmstate("drift", "--json").json["resource_drift"]
    assert (drift["change"]["actions"], drift["change"]["after"]) == (["delete"], None)
    assert drift["change"]["before"]["memory"] == 128 << 20


def test_sensitive_values_stay_out_of_all_outputs(kvmstate: Project) -> None:
    outputs = [kvmstate("plan"), kvmstate("plan", "--json"), kvmstate("apply", "--auto-approve", "--json")]
    kvmstate.write(POOL, VOLUME, edited(xml={"./devices/graphics[@type='vnc']/@passwd": "secret-2"}))
    outputs += [kvmstate("plan"), kvmstate("plan", "--json"), kvmstate("drift", "--json"), kvmstate("status")]
    outputs += [kvmstate("apply", "--auto-approve")]
    for done in outputs:
        assert "hunter2" not in done.out + done.err
        assert "secret-2" not in done.out + done.err
    change = outputs[1].json["resource_changes"][-1]["change"]
    assert change["after"]["xml"] == {"./devices/graphics[@type='vnc']/@passwd": "(sensitive value)"}
    assert change["after_sensitive"] == {"xml": {"./devices/graphics[@type='vnc']/@passwd": True}}
    assert change["before_sensitive"] is False
    assert "(sensitive value)" in outputs[0].out


def test_apply_tells_its_story_line_by_line(kvmstate: Project) -> None:
    done = kvmstate("apply", "--json", "--auto-approve")
    assert done.code == 0
    for line in done.lines:
        APPLY_SCHEMA.validate(line)
    types = [line["type"] for line in done.lines]
    assert types[0] == "version"
    assert types[1:5] == ["planned_change", "planned_change", "planned_change", "change_summary"]
    assert types.count("apply_start") == types.count("apply_complete") == 3
    assert types[-1] == "change_summary"
    assert done.lines[-1]["changes"] == {
        "add": 3, "change": 0, "destroy": 0, "failed": 0, "skipped": 0, "blocked": 0, "operation": "apply"
    }  # fmt: skip


def test_a_failure_is_a_diagnostic_with_its_address_and_skips_what_needs_it(kvmstate: Project) -> None:
    kvmstate.write(POOL, {**VOLUME, "spec": {**VOLUME["spec"], "capacity": "1EiB", "allocation": "1EiB"}}, MACHINE)
    done = kvmstate("apply", "--json", "--auto-approve")
    assert done.code == 1
    for line in done.lines:
        APPLY_SCHEMA.validate(line)
    by_type = {line["type"]: line for line in done.lines}
    assert by_type["apply_errored"]["hook"]["resource"]["address"] == "volume/images/root"
    assert by_type["apply_skipped"]["hook"]["resource"]["address"] == "domain/web-1"
    assert by_type["diagnostic"]["diagnostic"]["address"] == "volume/images/root"
    assert by_type["change_summary"]["changes"]["failed"] == 1


@pytest.mark.parametrize(
    "args", [("--nope",), ("missing.yaml",), ("-c", "test:///nowhere"), ("--target", "domain/wb-1")]
)
@pytest.mark.parametrize("command", ["plan", "drift", "apply"])
def test_errors_are_json_too(kvmstate: Project, command: str, args: tuple[str, ...]) -> None:
    done = kvmstate(command, "--json", *args)
    assert (done.code, done.err) == (1, "")
    if command == "apply":
        assert [line["type"] for line in done.lines] == ["version", "diagnostic"]
        APPLY_SCHEMA.validate(done.lines[1])
    else:
        PLAN_SCHEMA.validate(done.json)
        assert done.json["diagnostics"][0]["message"]


def test_every_problem_of_the_manifests_is_a_diagnostic_with_its_place(kvmstate: Project) -> None:
    kvmstate.write(POOL, edited(memry=1), edited(cpus=0))
    found = kvmstate("plan", "--json").json["diagnostics"]
    assert len(found) > 1
    assert all(d["file"].endswith("all.yaml") and d["line"] for d in found)


def test_nobody_is_asked_in_json(kvmstate: Project) -> None:
    done = kvmstate("apply", "--json")
    assert done.code == 1
    assert done.lines[-1]["diagnostic"]["hint"] == "say --auto-approve as well"
    assert kvmstate.connection.listAllDomains(0)[0].name() == "test"
