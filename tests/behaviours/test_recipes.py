"""The recipes of README and docs/jobs do what they say when they are typed, on a throw-away host."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import MAIN, ROOT, Project

from kvmstate import sandbox

JOBS = ROOT / "docs" / "jobs"
# commands that would ask
ASKING = ("apply", "destroy", "adopt", "snapshot revert", "snapshot merge", "snapshot delete")
# Where a recipe is shown that is not typed here, and what runs it instead
ELSEWHERE = {
    "kvmstate import interface/": "tests/behaviours/test_host_interface_kind.py",
    "kvmstate inventory": "tests/behaviours/test_first_boot.py",
    "kvmstate init shop --cloud-image": "script/demo",
    "kvmstate vm migrate": "tests/migration/test_migrate.py",
    "kvmstate graph --network": "tests/behaviours/test_network_graph.py",
    "kvmstate vm ": "tests/reconcile/test_daily_work.py",
    "kvmstate template list": "tests/behaviours/test_templates.py",
    "kvmstate clone": "tests/behaviours/test_templates.py",
    "kvmstate explain --resolved": "tests/behaviours/test_templates.py",
    "kvmstate status volume/": "tests/behaviours/test_bases.py",
    "sudo kvmstate service guests install": "script/systemd-test",
    "kvmstate host boot": "tests/behaviours/test_host_boot.py",
    "kvmstate pin --key": "tests/cli/test_pin.py",
    "kvmstate run manifests -c qemu:///system": "tests/reconcile/test_run.py",
    "kvmstate run -c qemu:///system --git git@host:infra.git": "tests/reconcile/test_run_git.py",
    "sudo apt install": "script/systemd-test",
    "curl --unix-socket": "tests/reconcile/test_web.py",
    "kvmstate plan --json | jq": "tests/artefacts/test_json.py",
    "kvmstate plan --confined": "tests/hostile/test_files.py",
    "kvmstate vm migrate web-1": "tests/migration/test_migrate.py",
    "kvmstate suspend domain/db-1": "tests/reconcile/test_marks.py",
    "export LIBVIRT_DEFAULT_URI=$(kvmstate sandbox start)\necho": "script/demo",
}


def blocks(page: Path) -> list[str]:
    """What stands indented on a page."""
    found = re.findall(r"^(?:    .*\n|\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [text for block in found if (text := textwrap.dedent(block).strip("\n"))]


def block(page: Path, begins: str) -> str:
    return next(text for text in blocks(page) if text.startswith(begins))


class Shell:
    """A shell in a folder, where `kvmstate` is this one and asks nobody."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self._programs = folder.with_name("programs")
        self._programs.mkdir()
        asks = "|".join(f'"{words}"' for words in (*ASKING, *(f"{word} *" for word in ASKING)))
        asks = asks.replace(' *"', ' "*')
        program = self._programs / "kvmstate"
        program.write_text(
            f'#!/bin/bash\ncase "$*" in {asks}) [[ $* == *plan.json* ]] || set -- "$@" --auto-approve ;; esac\n'
            f'exec {sys.executable} -c {shlex.quote(MAIN)} "$@"\n'
        )
        program.chmod(0o755)
        self._env = {"LIBVIRT_DEFAULT_URI": uri, "PYTHONPATH": str(ROOT)}

    def types(self, script: str, **env: str) -> str:
        """Every line must do what it should; what it has printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(" -c qemu:///system", "")],
            cwd=self.folder,
            env={**os.environ, **self._env, **env, "PATH": f"{self._programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def parses(self, script: str) -> None:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script

    def nothing_is_left(self, **env: str) -> None:
        self.types("kvmstate plan --detailed-exitcode", **env)


@pytest.fixture
def shell(project: Project, tmp_path: Path) -> Shell:
    """In an empty folder; its host is empty too."""
    (folder := tmp_path / "typed").mkdir()
    # where the project of `kvmstate init` has its volumes, which stay
    shutil.rmtree(project.host.directory / "lib" / "images" / "lab", ignore_errors=True)
    return Shell(folder, project.uri)


def test_the_quick_start_of_the_readme(shell: Shell, project: Project) -> None:
    text = block(ROOT / "README.md", "script/setup demo")
    assert re.findall("kvmstate sandbox st.*", text) == ["kvmstate sandbox start)", "kvmstate sandbox stop"]
    # this host has another name, and is here already
    lines = [line for line in text.splitlines() if not re.search(r"^script/|activate$|sandbox st", line)]
    said = shell.types("\n".join(lines).replace("sandbox exec", f"sandbox exec --name {project.host.name}"))
    assert "Apply complete!" in said
    assert re.search(r"web-1 +running", said)
    assert "Destroy complete!" in said


def test_a_new_project(shell: Shell) -> None:
    assert "Apply complete!" in shell.types(block(JOBS / "new-project.md", "kvmstate init shop"))


def test_two_environments(shell: Shell, project: Project) -> None:
    page = JOBS / "environments.md"
    production = sandbox.start(f"{project.host.name}-2")
    try:
        settings = block(page, "project: shop")
        for said, uri in (("root@kvm-test.example", project.uri), ("root@kvm1.example", production.uri)):
            settings = settings.replace(f"qemu+ssh://{said}/system", uri)
        (shell.folder / "manifests").mkdir()
        (shell.folder / "kvmstate.yaml").write_text(settings)
        (shell.folder / "values.yaml").write_text(block(page, "web: {count: 1"))
        (shell.folder / "values-production.yaml").write_text(block(page, "web: {count: 2"))
        (shell.folder / "manifests" / "web.yaml.j2").write_text(block(page, "{% for number"))
        shell.types(block(page, "kvmstate validate --env test"))
        machines = {
            env: shell.types(f"kvmstate status --env {env} --format markdown").count("domain/")
            for env in ("test", "production")
        }
        assert machines == {"test": 1, "production": 2}
        # what one environment owns is not another's
        refused = shell.types(f"! kvmstate plan --env production -c {shlex.quote(project.uri)} 2>&1")
        assert "environment" in refused
    finally:
        sandbox.stop(production.name)


def test_snapshots(shell: Shell) -> None:
    shell.types("kvmstate init .")
    machine = (shell.folder / "manifests" / "web-1.yaml").read_text()
    (shell.folder / "manifests" / "db-1.yaml").write_text(machine.replace("web-1", "db-1"))
    shell.types("kvmstate apply")
    said = shell.types(block(JOBS / "snapshots.md", "kvmstate snapshot create"))
    assert "before-upgrade" in said
    shell.nothing_is_left()


def test_secrets(shell: Shell, project: Project) -> None:
    page = JOBS / "secrets.md"
    for number, text in enumerate(text for text in blocks(page) if text.startswith("apiVersion:")):
        stopped = text.replace("memory: 1GiB", "memory: 32MiB\n  state: stopped")
        # there is no server here
        stopped = stopped.replace("type: iscsi\n", "type: iscsi\n  active: false\n")
        # the last is a template
        (shell.folder / f"{number}.yaml{'.j2' if '{{' in text else ''}").write_text(stopped)
    (shell.folder / "kvmstate.yaml").write_text("project: shop\nvalues: [values.yaml]\n")
    (shell.folder / "values.yaml").write_text("token: t0k3n\n")
    # the page's folder is in the home
    (home := shell.folder.with_name("home") / "secrets").mkdir(parents=True)
    (home / "chap").write_text("hush\n")
    (home / "shop.yaml").write_text("vnc: env:VNC\n")
    env = {"HOME": str(home.parent), "VNC": "hush", "KVMSTATE_SECRETS": str(home / "shop.yaml")}
    said = shell.types(block(page, "kvmstate plan --secret"), **env)
    assert [word for word in ("hush", "t0k3n") if word in said] == []
    assert said.count("(sensitive value)") >= 3


def steps(script: list[str], shell: Shell, **env: str) -> None:
    """What calls kvmstate is run; what the service or its machines do is only parsed."""
    for line in script:
        if line.startswith("kvmstate "):
            shell.types(line, **env)
        else:
            shell.parses(line)


def test_a_pipeline_on_github(shell: Shell, project: Project) -> None:
    shell.types("kvmstate init .")
    workflow: dict[Any, Any] = yaml.safe_load(block(JOBS / "pipelines.md", "# .github/workflows/"))
    # YAML 1.1 reads `on` as true
    assert set(workflow[True]) == {"pull_request", "push"}
    assert list(workflow["jobs"]) == ["plan", "apply"]
    assert workflow["jobs"]["apply"]["needs"] == "plan"
    env = {"KVM_HOST": project.uri, "LIBVIRT_DEFAULT_URI": ""}
    assert workflow["env"].keys() > {"KVM_HOST"}
    for job in workflow["jobs"].values():
        steps([step["run"] for step in job["steps"] if "run" in step], shell, **env)
    shell.nothing_is_left()
    assert "will be created" in (shell.folder / "plan.md").read_text()


def test_a_pipeline_on_gitlab(shell: Shell, project: Project) -> None:
    shell.types("kvmstate init .")
    pipeline = yaml.safe_load(block(JOBS / "pipelines.md", "# .gitlab-ci.yml"))
    shell.parses("\n".join(pipeline["default"]["before_script"]))
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job}
    assert list(jobs) == ["plan", "comment", "apply"]
    assert {job["stage"] for job in jobs.values()} == set(pipeline["stages"])
    for job in jobs.values():
        steps(job["script"], shell, KVM_HOST=project.uri, LIBVIRT_DEFAULT_URI="")
    shell.nothing_is_left()
    # what the apply needs is handed over
    assert "plan.json" in jobs["plan"]["artifacts"]["paths"]


def test_what_both_pipelines_install(shell: Shell) -> None:
    setup = block(JOBS / "pipelines.md", "#!/usr/bin/env bash")
    shell.parses(setup)
    # libvirt-python is built there: what the README says is needed for that
    assert {"gcc", "pkg-config", "libvirt-dev", "python3-dev"} <= set(setup.split())


def _recipes() -> Iterator[tuple[Path, str]]:
    written = (page for page in (ROOT / "docs").rglob("*.md") if "reference" not in page.parts or page.stem == "output")
    for page in (ROOT / "README.md", *sorted(written)):
        for text in blocks(page):
            if re.match(r"(kvmstate|sudo|curl|virsh|git|export|script/setup|#!)", text):
                yield page, text


def test_every_recipe_is_typed_by_a_test() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for page, text in _recipes():
        typed = any(text.startswith(begins) for begins in re.findall(r'block\([^"\n]*"?[^"]*"?, "([^"]+)"\)', here))
        shown = next((test for begins, test in ELSEWHERE.items() if text.startswith(begins)), "")
        assert typed or (shown and (ROOT / shown).exists()), f"{page}: {text}"
