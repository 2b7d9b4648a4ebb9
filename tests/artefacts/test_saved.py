"""`plan --out FILE`, `apply FILE`: what was shown is what is done, or nothing is."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.artefacts.conftest import MACHINE, POOL, VOLUME, Done, Project

PASSWORD = "./devices/graphics[@type='vnc']/@passwd"


def machine(**spec: Any) -> dict[str, Any]:
    return {**MACHINE, "spec": {**MACHINE["spec"], **spec}}


@pytest.fixture
def planned(kvmstate: Project) -> Project:
    """An applied project, and the saved plan of an edit."""
    kvmstate.write(POOL, VOLUME, machine(autostart=False))
    assert kvmstate("apply", "--auto-approve").code == 0
    kvmstate.write(POOL, VOLUME, machine(autostart=False, cpus=2))
    assert kvmstate("plan", "--out", "plan.json").code == 0
    return kvmstate


def refused(done: Done) -> str:
    assert (done.code, done.out) == (1, ""), done
    return done.err


def cpus(project: Project) -> int:
    return int(project.connection.lookupByName("web-1").vcpusFlags(2))


def test_a_saved_plan_is_carried_out_without_manifests_and_without_asking(planned: Project) -> None:
    shown = planned("plan").out
    (planned.folder / "all.yaml").unlink()
    done = planned("apply", "plan.json")
    assert done.code == 0
    assert done.out.startswith(shown)
    assert done.out.endswith("Apply complete! Resources: 0 added, 1 changed, 0 destroyed.\n")
    assert cpus(planned) == 2


def test_what_the_manifests_say_by_now_does_not_count(planned: Project) -> None:
    planned.write(POOL, VOLUME, machine(cpus=7))
    assert planned("apply", "plan.json").code == 0
    assert cpus(planned) == 2


def test_objects_get_the_uuids_that_the_plan_chose(kvmstate: Project) -> None:
    assert kvmstate("plan", "--out", "plan.json").code == 0
    chosen = json.loads(Path("plan.json").read_text())["uuids"]["domain/web-1"]
    assert kvmstate("apply", "plan.json").code == 0
    assert kvmstate.connection.lookupByName("web-1").UUIDString() == chosen


def test_a_plan_is_carried_out_once(planned: Project) -> None:
    assert planned("apply", "plan.json").code == 0
    assert "this plan is stale, and nothing was done: domain/web-1 changed" in refused(planned("apply", "plan.json"))


def test_a_stale_plan_tells_what_moved_and_changes_nothing(planned: Project) -> None:
    planned.connection.lookupByName("web-1").setMemoryFlags(64 << 10, 2)
    planned.connection.lookupByName("web-1").setAutostart(1)
    said = refused(planned("apply", "plan.json"))
    assert "domain/web-1: memory: 128 MiB -> 64 MiB" in said.replace("autostart: false -> true; ", "")
    assert "autostart: false -> true" in said
    assert "hint: make a new plan" in said
    assert cpus(planned) == 1


def test_a_resource_that_has_gone_makes_the_plan_stale(planned: Project) -> None:
    planned.connection.lookupByName("web-1").undefine()
    assert "domain/web-1: no longer exists on the host" in refused(planned("apply", "plan.json"))


def test_a_resource_that_has_come_makes_the_plan_stale(kvmstate: Project) -> None:
    assert kvmstate("plan", "--out", "plan.json").code == 0
    assert kvmstate("apply", "--auto-approve", "--target", "pool/images").code == 0
    assert "pool/images: now exists on the host" in refused(kvmstate("apply", "plan.json"))


def test_what_another_run_recorded_makes_the_plan_stale(planned: Project) -> None:
    described = {**VOLUME, "lifecycle": {"preventDestroy": True}}
    planned.write(POOL, described, machine(autostart=False))
    assert planned("apply", "--auto-approve").code == 0
    said = refused(planned("apply", "plan.json"))
    assert "volume/images/root: was applied, adopted or released by another run" in said


def test_errors_of_a_stale_plan_are_json_on_request(planned: Project) -> None:
    planned.connection.lookupByName("web-1").setMemoryFlags(64 << 10, 2)
    lines = planned("apply", "--json", "plan.json").lines
    assert [line["type"] for line in lines] == ["version", "diagnostic"]
    assert "memory: 128 MiB -> 64 MiB" in lines[1]["diagnostic"]["message"]


def test_the_file_is_for_its_owner_only_even_over_an_older_one(planned: Project) -> None:
    Path("plan.json").chmod(0o644)
    assert planned("plan", "--out", "plan.json").code == 0
    assert stat.S_IMODE(Path("plan.json").stat().st_mode) == 0o600
    assert [path.name for path in Path().iterdir() if path.name.startswith(".plan")] == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text[: len(text) // 2], "is not a whole plan"),
        (lambda text: text.replace('"kvmstate_version": "', '"kvmstate_version": "9.'), "was made by kvmstate 9."),
        (lambda text: text.replace('"1.0"', '"7.0"', 1), "was made by kvmstate"),
        (lambda text: text.replace('"project": "shop"', '"project": "other"'), "is a plan of project other"),
        (lambda text: text.replace('"host_id": "test', '"host_id": "else'), "this plan was made for the host test:///"),
        (lambda text: text.replace('"uuids"', '"uuid"'), "is damaged"),
        (lambda text: text.replace('"memory": 134217728', '"memory": -1'), "is damaged"),
        (lambda text: text.replace('"cpus": 2', '"cpus": 3'), "would be changed otherwise now"),
        (lambda text: text.replace('"changes": {', '"changes": {"pool/other": "", '), "pool/other: is gone"),
    ],
)
def test_a_file_that_is_not_this_plan_is_refused(planned: Project, edit: Any, said: str) -> None:
    text = Path("plan.json").read_text()
    assert edit(text) != text
    Path("plan.json").write_text(edit(text))
    assert said in refused(planned("apply", "plan.json"))
    assert cpus(planned) == 1


def test_a_printed_plan_is_no_saved_plan(planned: Project) -> None:
    Path("printed.json").write_text(planned("plan", "--json").out)
    said = refused(planned("apply", "printed.json"))
    assert "printed.json is not a saved plan" in said
    assert "plan --out FILE" in said


@pytest.mark.parametrize("args", [["--prune"], ["--set", "a=b"], ["--target", "pool/images"], ["all.yaml"]])
def test_a_saved_plan_takes_nothing_that_would_make_it_another(kvmstate: Project, args: list[str]) -> None:
    kvmstate.write(POOL, VOLUME, machine(xml={}))
    assert kvmstate("plan", "--out", "plan.json").code == 0
    planned = kvmstate
    assert "plan.json is a saved plan: it takes no " in refused(planned("apply", "plan.json", *args))


def test_saving_a_plan_overwrites_nothing_else(planned: Project) -> None:
    before = Path("all.yaml").read_text()
    assert "all.yaml exists and is not a saved plan" in refused(planned("plan", "--out", "all.yaml"))
    assert Path("all.yaml").read_text() == before
    assert planned("plan", "--out", "missing/plan.json").code == 1


def test_a_partial_plan_stays_partial(kvmstate: Project) -> None:
    assert kvmstate("plan", "--out", "plan.json", "--target", "pool/images").code == 0
    done = kvmstate("apply", "plan.json")
    assert (done.code, "leaves 2 resources out" in done.out) == (0, True)
    assert [domain.name() for domain in kvmstate.connection.listAllDomains(0)] == ["test"]


def test_deletions_are_counted_when_the_plan_is_made(planned: Project) -> None:
    more = [
        {"kind": "StoragePool", "metadata": {"name": n}, "spec": {**POOL["spec"], "target": {"path": f"/{n}"}}}
        for n in "ab"
    ]
    planned.write(POOL, VOLUME, *more)
    assert planned("apply", "--auto-approve").code == 0
    planned.write(POOL, VOLUME)
    options = ["--prune", "--exclude", "domain/web-1"]
    assert planned("plan", *options, "--max-deletes", "1", "--out", "few.json").code == 1
    assert not Path("few.json").exists()
    assert planned("plan", *options, "--max-deletes", "2", "--out", "plan.json").code == 0
    assert planned("apply", "plan.json").out.endswith("0 added, 0 changed, 2 destroyed.\n")


def test_secrets_are_not_in_the_file_and_come_from_the_manifests(kvmstate: Project) -> None:
    assert kvmstate("plan", "--out", "plan.json").code == 0
    assert "hunter2" not in Path("plan.json").read_text()
    assert kvmstate("apply", "plan.json").code == 0
    kvmstate.write(POOL, VOLUME, machine(xml={PASSWORD: "hunter3"}))
    assert kvmstate("plan", "--out", "plan.json").code == 0
    assert "hunter" not in Path("plan.json").read_text()
    assert kvmstate("apply", "plan.json").code == 0
    xml = kvmstate.connection.lookupByName("web-1").XMLDesc(1)
    assert "passwd='hunter3'" in xml


def test_secrets_that_are_not_those_of_the_plan_are_not_applied(kvmstate: Project) -> None:
    assert kvmstate("plan", "--out", "plan.json").code == 0
    for edited in (MACHINE, machine(xml={}), machine(xml={PASSWORD: "other"})):
        kvmstate.write(POOL, VOLUME, *([] if edited is MACHINE else [edited]))
        said = refused(kvmstate("apply", "plan.json"))
        assert "those of domain/web-1 are not the manifests'" in said
        assert "kvmstate apply FILE MANIFESTS..." in said
    assert [each.name() for each in kvmstate.connection.listAllDomains(0)] == ["test"]
    kvmstate.write(POOL, VOLUME, machine(cpus=7))
    assert kvmstate("apply", "plan.json", "all.yaml").code == 0
    assert cpus(kvmstate) == 1


def test_the_place_of_the_manifests_is_said_where_it_is_another(kvmstate: Project, tmp_path: Path) -> None:
    """A template's values too, as they were when the plan was made."""
    values = ["--set", "password=hunter4"]
    kvmstate.write(POOL, VOLUME, machine(xml={PASSWORD: "{{ values.password }}"}))
    Path("all.yaml").rename("all.yaml.j2")
    assert kvmstate("plan", "--out", "plan.json", *values).code == 0
    assert "hunter" not in Path("plan.json").read_text()
    assert "there is no value 'password'" in refused(kvmstate("apply", "plan.json"))
    assert "those of domain/web-1 are not" in refused(kvmstate("apply", "plan.json", "--set", "password=x"))
    assert kvmstate("apply", "plan.json", *values).code == 0
    assert "passwd='hunter4'" in kvmstate.connection.lookupByName("web-1").XMLDesc(1)
