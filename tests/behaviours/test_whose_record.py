"""A project is more than its name: what another one of this name, or another environment, owns is not touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
import yaml
from harness import Project, Run, kvmstate, resource

from kvmstate.manifest import load_project

pytestmark = pytest.mark.real
YES = "--auto-approve"


def network(name: str) -> dict:
    return resource("Network", name)


def names(connection: libvirt.virConnect) -> list[str]:
    return sorted(n.name() for n in connection.listAllNetworks())


def identified(project: Project, id_: str = "", more: str = "") -> Project:
    said = f"id: {id_}\n" if id_ else ""
    (project.folder / "kvmstate.yaml").write_text(
        f"project: shop\n{said}connection: {project.uri}\nmanifests: [manifests.yaml]\nprune: true\n{more}"
    )
    return project


@pytest.fixture
def mine(project: Project) -> Project:
    return identified(project, "mine")


@pytest.fixture
def theirs(project: Project, tmp_path: Path) -> Project:
    other = identified(Project(project.host, tmp_path / "theirs"), "theirs")
    other.write(network("new"))
    return other


@pytest.fixture(params=["secrets", "files"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Project]]:
    """Two folders of one project's name, with ids of their own, on a real host, and on one that keeps no secrets."""
    if request.param == "secrets":
        yield [request.getfixturevalue("mine"), request.getfixturevalue("theirs")]
        return
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    opened = libvirt.open("test:///default")
    # what the tests before have left: it lives on while a connection is not collected
    for found in opened.listAllNetworks():
        if found.isActive():
            found.destroy()
        found.undefine()
    projects = [identified(Project("test:///default", tmp_path / name), name) for name in ("mine", "theirs")]
    projects[1].write(network("new"))
    yield projects
    opened.close()


def refused(run: Run, said: str, hint: str) -> None:
    assert run.code == 1, run
    assert said in run.err, run
    assert hint in run.err.partition("hint: ")[2], run


def test_another_project_of_this_name(pair: list[Project]) -> None:
    mine, theirs = pair
    mine.converge(network("a"), network("b"))
    saved = theirs.folder / "plan.json"
    for command in (
        ("plan",),
        ("plan", "--out", str(saved)),
        ("apply", YES),
        ("destroy", YES),
        ("adopt", YES),
    ):
        refused(
            theirs.kvmstate(*command[:1], *command[1:]),
            "belongs to another project of this name: its id is mine, and that of this kvmstate.yaml theirs",
            "--take-ownership",
        )
    at = ("-C", str(theirs.folder))
    for command in (("suspend", "network/a", *at), ("resume", "network/a", *at)):
        refused(kvmstate(*command), "belongs to another project of this name", "--take-ownership")
    refused(kvmstate("snapshot", "run", str(theirs.folder)), "belongs to another project of this name", "choose")
    assert not saved.exists()
    assert mine.plan().code == 0
    # looking is not refused
    status = theirs.kvmstate("status")
    assert status.code == 0
    assert "belongs to another project of this name: its id is mine" in status.out
    # by a flag it is taken over, and then it is the first one that is refused
    assert theirs.todo("--take-ownership")["delete"] == 2
    assert theirs.apply("--take-ownership", "--max-deletes", "5").code == 0
    assert theirs.plan().code == 0
    refused(mine.plan(), "its id is theirs, and that of this kvmstate.yaml mine", "--take-ownership")


def test_a_run_without_an_id(mine: Project, tmp_path: Path, connection: libvirt.virConnect) -> None:
    identified(mine)
    mine.converge(network("a"))  # as before there were ids
    identified(mine, "mine")
    assert mine.plan().code == 0
    mine.converge()  # nothing to do, and yet the id is recorded
    identified(mine)
    (tmp_path / "none").mkdir()
    for run in (
        mine.plan(),
        mine.apply(),
        mine.kvmstate("destroy", YES),
        kvmstate("destroy", "--project", "shop", "-c", mine.uri, YES, str(tmp_path / "none")),
    ):
        refused(run, "belongs to the kvmstate.yaml with the id mine, and this run has none", "write `id: mine` into")
    assert names(connection) == ["a"]
    assert mine.kvmstate("destroy", YES, "--take-ownership").code == 0
    assert names(connection) == []


def test_nothing_is_recorded_of_what_owns_nothing(pair: list[Project]) -> None:
    mine, theirs = pair
    mine.converge(network("a"))
    assert mine.kvmstate("destroy", YES).code == 0
    assert theirs.plan().code == 0 or "1 to add" in theirs.plan().out
    theirs.converge()
    refused(mine.plan(), "its id is theirs", "--take-ownership")


ENVIRONMENTS = "environments: {prod: {}, dev: {}}\n"


def test_another_environment(mine: Project, connection: libvirt.virConnect) -> None:
    identified(mine, "mine", ENVIRONMENTS)
    mine.write(network("a"), network("b"))
    assert mine.apply("--env", "prod").code == 0
    mine.write(network("c"))
    for env, hint in ((("--env", "dev"), "say --env prod"), ((), "say --env prod")):
        for command in (("plan",), ("apply", YES), ("destroy", YES), ("adopt", YES)):
            refused(mine.kvmstate(*command, *env), "was applied with environment prod", hint)
    assert names(connection) == ["a", "b"]
    assert mine.apply("--env", "dev", "--allow-environment-change").code == 0
    assert names(connection) == ["c"]
    refused(mine.apply("--env", "prod"), "was applied with environment dev, and this run is of environment prod", "dev")
    assert mine.kvmstate("destroy", YES, "--env", "dev").code == 0


def test_an_environment_where_there_was_none(mine: Project, connection: libvirt.virConnect) -> None:
    mine.converge(network("a"))
    identified(mine, "mine", ENVIRONMENTS)
    mine.write(network("b"))
    refused(mine.apply("--env", "dev"), "was applied with no environment", "leave --env out")
    assert names(connection) == ["a"]


def test_a_saved_plan(mine: Project, theirs: Project, connection: libvirt.virConnect) -> None:
    saved = mine.folder / "plan.json"
    mine.write(network("a"))
    assert mine.plan("--out", str(saved)).code == 2
    theirs.converge()
    refused(kvmstate("apply", str(saved)), "belongs to another project of this name", "make a new plan")
    assert names(connection) == ["new"]
    # the flag is in the plan that was made with it
    assert mine.plan("--out", str(saved), "--take-ownership").code == 2
    assert kvmstate("apply", str(saved)).code == 0
    assert names(connection) == ["a"]
    assert mine.plan().code == 0


def test_adopt_writes_the_id(project: Project, connection: libvirt.virConnect) -> None:
    file = project.folder / "kvmstate.yaml"
    file.write_text(f"# ours\n{file.read_text()}# the end\n")
    connection.networkDefineXML("<network><name>lan</name></network>")
    project.write(network("lan"))
    adopted = project.kvmstate("adopt", YES)
    assert adopted.code == 0, adopted
    id_ = load_project(project.folder).id
    text = file.read_text()
    assert text.splitlines()[:3] == ["# ours", "project: shop", f"id: {id_}"]
    assert text.endswith("# the end\n")
    assert project.apply().code == 0
    # once
    assert project.kvmstate("adopt", YES).code == 0
    assert file.read_text() == text
    file.write_text(text.replace(id_, "other"))
    refused(project.plan(), f"its id is {id_}", "--take-ownership")
    # a checkout that has not got it yet must not be given another one
    file.write_text(text.replace(f"id: {id_}\n", ""))
    refused(project.kvmstate("adopt", YES), f"with the id {id_}", f"write `id: {id_}` into")


def test_import_and_init_write_an_id(project: Project, tmp_path: Path, connection: libvirt.virConnect) -> None:
    connection.networkDefineXML("<network><name>lan</name></network>")
    ids = set()
    for name in ("one", "two"):
        assert kvmstate("init", str(tmp_path / name)).code == 0
        ids.add(load_project(tmp_path / name).id)
    taken = tmp_path / "shop2"
    assert kvmstate("import", "--all", "-c", project.uri, "-o", str(taken)).code == 0
    ids.add(load_project(taken).id)
    assert len(ids - {""}) == 3
    assert kvmstate("plan", "--detailed-exitcode", str(taken)).code == 0
    # another folder of this name cannot import into its record
    again = kvmstate("import", "--all", "-c", project.uri, "-o", str(tmp_path / "again"), "--project", "shop2")
    refused(again, "belongs to the kvmstate.yaml with the id", "choose another name")
    assert not (tmp_path / "again").exists()


def test_a_damaged_header(mine: Project, connection: libvirt.virConnect) -> None:
    mine.converge(network("a"))
    secret = connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "kvmstate:shop:project")
    for value, said in (
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format": 1}', "is damaged"),
        (json.dumps({"format": 9}).encode(), "written by a newer kvmstate"),
    ):
        secret.setValue(value)
        refused(mine.plan(), said, "")
        adopted = mine.kvmstate("adopt", YES)
        assert adopted.code == (1 if "newer" in said else 0), adopted
        secret = connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "kvmstate:shop:project")
    secret.setValue(json.dumps({"format": 1, "id": "mine", "environment": ""}).encode())
    assert mine.plan().code == 0


def test_folders_do_not_count(mine: Project, tmp_path: Path) -> None:
    mine.converge(network("a"))
    shutil.copytree(mine.folder, tmp_path / "pipeline")
    assert kvmstate("plan", "--detailed-exitcode", str(tmp_path / "pipeline")).code == 0
    manifest = yaml.safe_dump(network("b"))
    (tmp_path / "pipeline" / "manifests.yaml").write_text(manifest)
    assert kvmstate("apply", YES, str(tmp_path / "pipeline")).code == 0
