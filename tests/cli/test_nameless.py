"""Without kvmstate.yaml and --project nothing is pruned, destroyed or adopted; an empty folder is an error; values that
nobody reads are told."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest
from harness import Run, kvmstate

NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: %s}\nspec: {mtu: 1500}\n"
HOST = ("-c", "test:///default")
YES = "--auto-approve"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "work"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def manifest(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.yaml").write_text(NETWORK % name)
    return folder


def refused(run: Run, said: str, hint: str) -> None:
    assert run.code == 1, run
    assert said in run.err, run
    assert not hint or f"hint: {hint}" in run.err, run


@pytest.mark.parametrize(
    "command",
    [("destroy", YES), ("adopt", YES), ("apply", "--prune", YES), ("plan", "--prune"), ("adopt", "network/a", YES)],
    ids=" ".join,
)
def test_nothing_goes_and_nothing_is_adopted(command: tuple[str, ...], folder: Path) -> None:
    manifest(folder, "a")
    refused(kvmstate(*command, *HOST), "nothing says which project this is", "say --project NAME")
    named = kvmstate(*command, *HOST, "--project", "lab")
    assert "which project" not in named.err, named


@pytest.mark.parametrize("command", ["plan", "status", "drift"])
def test_one_may_look(command: str, folder: Path) -> None:
    manifest(folder, "a")
    for named in ((), ("--project", "lab")):
        assert kvmstate(command, *HOST, *named).code == 0


def test_no_manifest_is_read_to_see_drift(folder: Path) -> None:
    """What plan is called with does, and values are not looked at either."""
    (manifest(folder, "a") / "broken.yaml.j2").write_text("{{ values.never.set }}: [")
    (folder / "kvmstate.yaml").write_text("project: shop\n")
    done = kvmstate("drift", ".", *HOST, "--values", "elsewhere.yaml", "--set", "never=1")
    assert (done.code, done.err) == (0, ""), done
    assert "--values" not in kvmstate("drift", "--help").out
    assert kvmstate("plan", ".", *HOST).code == 1
    for command in ("drift", "unlock"):
        refused(kvmstate(command, "nowhere", *HOST), "nowhere: no such file or folder", "")


def test_the_name_is_that_of_the_file(folder: Path) -> None:
    (manifest(folder, "a") / "kvmstate.yaml").write_text("project: shop\n")
    for command in ("plan", "destroy", "status", "drift", "adopt", "unlock"):
        refused(kvmstate(command, *HOST, "--project", "lab"), "is of project shop, not lab", "leave --project out")
        assert "not shop" not in kvmstate(command, *HOST, "--project", "shop").err
    assert "letters, digits" in kvmstate("plan", *HOST, "--project", "a/../b").err


@pytest.mark.parametrize("command", [("plan", "--detailed-exitcode"), ("apply", YES)])
def test_an_empty_folder_is_an_error(command: tuple[str, ...], folder: Path) -> None:
    (folder / "README.md").write_text("# nothing here\n")
    refused(kvmstate(*command, *HOST), "there are no manifests in .", "if that is meant, say --allow-empty")
    assert kvmstate(*command, *HOST, "--allow-empty").code == 0
    refused(
        kvmstate("adopt", YES, "--project", "x", *HOST), "there are no manifests in .", "name the folder that has them"
    )


def test_one_empty_folder_of_several_is_an_error(folder: Path) -> None:
    manifest(folder / "vms", "a")
    (folder / "mounted").mkdir()
    (folder / "kvmstate.yaml").write_text("project: shop\nmanifests: [vms, mounted]\n")
    refused(kvmstate("plan", *HOST), "there are no manifests in mounted", "if that is meant, say --allow-empty")
    refused(kvmstate("validate"), "there are no manifests in mounted", "see `manifests` in kvmstate.yaml")
    (folder / "mounted" / "later.yaml").write_text("# none yet\n")
    assert kvmstate("plan", *HOST).code == 0
    for look in ("status", "drift"):
        (folder / "mounted" / "later.yaml").unlink(missing_ok=True)
        assert kvmstate(look, *HOST).code == 0


TEMPLATE = """\
{% import "lib.j2" as lib %}{% if values.extra is defined %}{% include "extra.j2" %}{% endif %}
{% for name in values.names | default([]) %}
---
apiVersion: kvmstate/v1
kind: Network
metadata: {name: "{{ name }}"}
spec: {mtu: {{ values.net.get("mtu", 1500) }}, bridge: {name: "{{ values["net"].bridge }}"}}
{% endfor %}
"""


@pytest.fixture
def templates(folder: Path) -> Path:
    (folder / "net.yaml.j2").write_text(TEMPLATE)
    (folder / "lib.j2").write_text("{% macro never() %}{{ values.macro.deep }}{% endmacro %}")
    (folder / "extra.j2").write_text("# {{ values.extra }}{{ values.more }}\n")
    (folder / "values.yaml").write_text("net: {bridge: br0}\n")
    (folder / "kvmstate.yaml").write_text(
        "project: shop\nvalues: [values.yaml]\nenvironments: {dev: {values: [dev.yaml]}}\n"
    )
    (folder / "dev.yaml").write_text("net: {mtu: 1400}\n")
    return folder


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("namess=x", "did you mean names?"),
        ("net.mtuu=1", "did you mean net.mtu?"),
        ("macro.deeep=1", "did you mean macro.deep?"),
        ("nothing.at.all=1", ""),
    ],
)
def test_a_value_that_no_template_reads_cannot_be_set(name: str, hint: str, templates: Path) -> None:
    for command in (("validate",), ("plan", *HOST), ("apply", YES, *HOST), ("destroy", YES, *HOST)):
        done = kvmstate(*command, "--set", name)
        assert done.code == 1, done
        assert f"--set {name.partition('=')[0]}: there is no template that reads it" in done.err
        assert hint in done.err


@pytest.mark.parametrize("name", ["names=a", "net.mtu=1400", "macro.deep.er=1", "extra=1", "more=1", "net.bridge=br1"])
def test_what_any_template_may_read_can_be_set(name: str, templates: Path) -> None:
    done = kvmstate("validate", "--set", name, *(("--set", "more=1") if name == "extra=1" else ()))
    assert (done.code, done.err) == (0, ""), done


def test_without_templates_no_value_can_be_set(folder: Path) -> None:
    manifest(folder, "a")
    refused(kvmstate("validate", "--set", "a=1"), "there is no template that reads it", "values are for templates")


@pytest.mark.parametrize("text", ["{{ values | length }}", "{{ values[values.key] }}", "{% include values.file %}"])
def test_where_it_cannot_be_told_nothing_is_said(text: str, folder: Path) -> None:
    (folder / "a.yaml.j2").write_text(f"# {text}\n")
    (folder / "some.txt").write_text("# some")
    done = kvmstate("validate", "--set", "any=1", "--set", "key=any", "--set", "file=some.txt")
    assert (done.code, done.err) == (0, ""), done


def test_values_of_files_that_no_template_reads_are_told(templates: Path) -> None:
    (templates / "dev.yaml").write_text("net: {mtu: 1400, mtuu: 1500}\nold: {a: 1, b: 2}\nnames: []\n")
    assert kvmstate("validate").err == ""
    for command in (("validate", "--env", "dev"), ("plan", "--env", "dev", *HOST)):
        done = kvmstate(*command)
        assert done.code == 0, done
        assert [line for line in done.err.splitlines() if line.startswith("warning")] == [
            "warning: dev.yaml: no template reads net.mtuu (did you mean net.mtu?)",
            "warning: dev.yaml: no template reads old",
        ]
    # of a part nothing can be said
    assert kvmstate("validate", "--env", "dev", "net.yaml.j2").err == ""


def test_what_another_folder_made_stays(folder: Path) -> None:
    opened = libvirt.open("test:///default")  # which lives as long as somebody is connected
    assert kvmstate("apply", str(manifest(folder / "alice", "alice")), *HOST, YES).code == 0
    planned = kvmstate("plan", str(manifest(folder / "bob", "bob")), *HOST)
    assert "network/alice" in planned.out
    assert "not in these manifests; it stays" in planned.out
    assert "renamed" not in planned.out
    assert kvmstate("apply", str(folder / "bob"), *HOST, YES).code == 0
    for command in (("apply", "bob", "--prune"), ("destroy", "bob")):
        refused(kvmstate(*command, *HOST, YES), "nothing says which project this is", "say --project NAME")
    assert {"alice", "bob"} <= {network.name() for network in opened.listAllNetworks()}
    # by its name
    assert kvmstate("destroy", "bob", "--project", "default", *HOST, YES).code == 0
    opened.close()
