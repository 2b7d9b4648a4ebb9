"""validate, schema, explain and init, as they are called."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from prepared import execute

from kvmstate.cli import run
from kvmstate.cli.explain import PROJECT_FILE, Found, describe, example, find, options
from kvmstate.cli.schema import FILES, text
from kvmstate.kinds import ALL_KINDS
from kvmstate.manifest.project import load_project
from kvmstate.model.printable import harmless

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "manifest" / "cases"
NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: lan}\nspec: {}\n"
POLICY = """\
apiVersion: kvmstate/v1
kind: SnapshotPolicy
metadata: {name: nightly}
spec: {selector: {names: ["*"]}, every: 1d, retention: {daily: 7}}
"""


def kvmstate(*args: str, cwd: Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    done = execute(*args, cwd=cwd, stdin=stdin.encode(), env={**os.environ, "PYTHONPATH": str(ROOT), **env})
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_init_makes_a_project_that_validates(tmp_path: Path) -> None:
    made = kvmstate("init", "shop", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "kvmstate plan" in made.stdout
    checked = kvmstate("validate", cwd=tmp_path / "shop")
    assert checked.stdout == "manifests: 4 resources valid (1 Network, 1 StoragePool, 1 Volume, 1 VirtualMachine)\n"
    assert (checked.returncode, checked.stderr) == (0, "")
    again = kvmstate("init", "shop", cwd=tmp_path)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_validate_reads_standard_input_and_notes_what_must_be_on_the_host(tmp_path: Path) -> None:
    done = kvmstate("validate", "-", cwd=tmp_path, stdin=NETWORK)
    assert (done.returncode, done.stdout) == (0, "-: 1 resource valid (1 Network)\n")
    machine = "apiVersion: kvmstate/v1\nkind: VirtualMachine\nmetadata: {name: a}\n"
    machine += "spec: {memory: 1GiB, interfaces: [{network: lan}]}\n"
    done = kvmstate("validate", "-", cwd=tmp_path, stdin=machine)
    assert done.returncode == 0
    assert done.stderr == "note: <stdin>:4:45: network/lan is not in these manifests; it must be on the host\n"


def test_validate_json(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(NETWORK.replace("{}", "{mtuu: 1}"))
    done = kvmstate("validate", "--json", "m.yaml", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert (answer["valid"], answer["error_count"]) == (False, 1)
    assert answer["diagnostics"][0] == {
        "severity": "error",
        "message": "unknown field",
        "file": "m.yaml",
        "line": 4,
        "column": 8,
        "path": "spec.mtuu",
        "hint": "did you mean mtu?",
    }


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["valdate"], "did you mean validate?"),
        (["validate", "--nope"], "see kvmstate validate --help"),
        (["validate", "none.yaml"], "none.yaml: no such file or folder"),
        (["explain", "Domian"], "did you mean"),
        (["explain", "VirtualMachine.dsks"], "did you mean disks?"),
        (["explain", "Network.mtu.size"], "has no fields"),
        (["explain", "kvmstate.yaml.conection"], "did you mean connection?"),
        (["recreate", "domain/web-1"], "domain/web-1 is not a volume"),
        (["plan", "plan.json"], "only `kvmstate apply` takes a plan"),
        (["plan", "--env", "a", "--env", "b"], "--env is given 2 times, and takes one value"),
        (["apply", "-c", "a:///", "--connect=b:///"], "--connect is given 2 times"),
        (["snapshot", "create", "vm", "--name", "a", "--name", "b"], "--name is given 2 times"),
        (["plan", "-c", ""], "it is empty; leave it out for the default host"),
        (["run", "--branch", "a", "--branch", "a"], "--branch is given 2 times"),
        ([], "Usage:"),
    ],
)
def test_usage_errors_exit_1(args: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    done = kvmstate(*args, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_what_is_not_needed_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(f"{NETWORK}---\n{POLICY}")
    script = (
        "import sys\nfrom kvmstate.cli import run\n"
        "assert run(['--version']) == run(['--help']) == run(['plan', '--help']) == 0\n"
        "assert not {'pydantic', 'yaml', 'lxml'} & set(sys.modules)\n"
        "assert run(['validate', 'm.yaml']) == run(['graph', 'm.yaml']) == 0\n"
        "print(sorted({'libvirt', 'rich', 'structlog', 'jinja2', 'watchdog'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_bugs_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kvmstate.cli.explain.find", lambda what: 1 / 0)
    monkeypatch.delenv("KVMSTATE_DEBUG", raising=False)
    assert run(["explain", "Network"]) == 1
    assert "bug in kvmstate" in capsys.readouterr().err
    monkeypatch.setenv("KVMSTATE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["explain", "Network"])


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    assert harmless("a\x1b[31m\x9b\u202e\nb") == "a\\x1b[31m\\x9b\\u202e\nb"
    (tmp_path / "m.yaml").write_text(NETWORK.replace("lan", '"\\e[31m\\u202e"'))
    assert "\x1b" not in kvmstate("validate", cwd=tmp_path).stderr


def test_explain_says_what_where_and_at_what_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "VirtualMachine.spec.disks[].bus"]) == 0
    said = capsys.readouterr().out
    assert "<virtio | sata | scsi | ide | usb | fdc>" in said
    assert "/domain/devices/disk/target/@bus" in said
    assert "restart" in said
    assert run(["explain", "domain.cpus"]) == 0
    assert "up to maxCpus" in capsys.readouterr().out
    assert run(["explain", "Network.lifecycle"]) == 0
    assert "preventDestroy" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_schemas_are_fresh(name: str) -> None:
    fresh = (ROOT / "schemas" / name).read_text(encoding="utf-8") == text(FILES[name])
    assert fresh, "run: kvmstate schema --output schemas/"


def test_every_field_of_a_spec_is_described() -> None:
    schema = json.loads(text("manifest"))
    for name, definition in schema["$defs"].items():
        for field, value in definition.get("properties", {}).items():
            said = json.dumps({key: each for key, each in value.items() if key != "default"})
            assert value.get("description") or "$ref" in said or "description" in said, f"{name}.{field}"


def test_the_schema_takes_what_the_loader_takes(tmp_path: Path) -> None:
    schema = json.loads(text("manifest"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator.check_schema(json.loads(text("project")))
    check = jsonschema.Draft202012Validator(schema)
    assert run(["init", str(tmp_path / "p")]) == 0
    good = [*(tmp_path / "p" / "manifests").glob("*.yaml"), ROOT / "tests" / "cli" / "good.yaml"]
    for file in good:
        for document in yaml.safe_load_all(file.read_text()):
            check.validate(document)
    jsonschema.validate(yaml.safe_load((tmp_path / "p" / "kvmstate.yaml").read_text()), json.loads(text("project")))


@pytest.mark.parametrize("case", ["fields", "pool", "network"])
def test_the_schema_refuses_what_the_loader_refuses(case: str) -> None:
    check = jsonschema.Draft202012Validator(json.loads(text("manifest")))
    for document in yaml.safe_load_all((CASES / case / "manifest.yaml").read_text()):
        assert not check.is_valid(document)


def test_explain_says_what_each_field_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "VirtualMachine"]) == 0
    out = capsys.readouterr().out
    assert "    memory          <text or integer> (required)\n        What the guest may use, in whole KiB.\n" in out
    assert "    title           <text>\n        A short title, one line.\n" in out
    assert run(["explain", "VirtualMachine.lifecycle.stop"]) == 0
    assert "  Default:  {timeout: 60, onTimeout: fail}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*(kind.name for kind in ALL_KINDS), PROJECT_FILE])
def test_every_field_is_explained_in_a_line_and_every_kind_has_an_example(name: str, tmp_path: Path) -> None:
    found = find(name)
    lines = list(describe(found))
    assert [line for line in lines if len(line) > 80] == []
    assert [each for each in unsaid(found, set()) if each] == []
    text = example(name)
    assert textwrap.indent(text.rstrip(), "    ") in "\n".join(lines)
    if name == PROJECT_FILE:
        for values in ("values.yaml", "values-production.yaml"):
            (tmp_path / values).write_text("{}\n")
        (tmp_path / "manifests").mkdir()
        (tmp_path / PROJECT_FILE).write_text(text)
        assert {load_project(tmp_path, env).name for env in (None, "test", "production")} == {"shop"}
    else:
        (tmp_path / "m.yaml").write_text(text)
        assert kvmstate("validate", "m.yaml", cwd=tmp_path).returncode == 0


def unsaid(found: Found, known: set[str]) -> Iterator[str]:
    """Fields that nothing is said about."""
    for variant in found.variants():
        if (key := json.dumps(variant)) in known:
            continue
        known.add(key)
        for field, schema in variant["properties"].items():
            said = any("description" in each for each in (schema, *options(schema, found.root)))
            yield "" if said or "const" in schema else f"{found.name}.{field}"
            yield from unsaid(find(f"{found.name}.{field}"), known)


def test_explain_draws_all_fields_as_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "Network.ips", "--recursive"]) == 0
    said = capsys.readouterr().out
    assert "  dhcp            <object>\n    ranges          <list of object>\n      start " in said
    assert run(["explain", "Network.ips", "--recursive", "--json"]) == 0
    fields = {each["name"] for each in json.loads(capsys.readouterr().out)["fields"]}
    assert "Network.ips.dhcp" in fields


def test_the_cost_of_a_change_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for field in ("VirtualMachine.memory", "VirtualMachine.disks.bus", "Volume.format"):
        assert run(["explain", field]) == 0
        said = capsys.readouterr().out
        assert "Change:" in said
        assert "takes effect at the next restart" not in said


def test_explain_knows_the_project_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 0
    assert (
        "kvmstate.yaml   The project file: what all manifests of a project have in common." in capsys.readouterr().out
    )
    assert run(["explain", "kvmstate.yaml.reconcile.mode"]) == 0
    assert "  Default:  enforce" in capsys.readouterr().out
    assert run(["explain", "kvmstate.yaml.environments.connection"]) == 0
    assert capsys.readouterr().out.startswith("kvmstate.yaml.environments.connection  <text>")


def test_explain_shows_all_members_of_a_union(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "StoragePool.type"]) == 0
    assert capsys.readouterr().out.startswith("StoragePool.type  <dir | fs | netfs | logical | disk | iscsi | ")
    assert run(["explain", "pool"]) == 0
    said = capsys.readouterr().out
    one, other = said.index("Fields of type dir:"), said.index("Fields of type sheepdog or vstorage:")
    assert one < said.index("A folder of the host's.") < other < said.index("A pool of another type.")
    assert run(["explain", "pool.target.path"]) == 0
    assert "/pool/target/path" in capsys.readouterr().out


def test_snapshot_commands_take_a_machine_by_its_address_too(tmp_path: Path) -> None:
    for name in ("test", "domain/test"):
        listed = kvmstate("snapshot", "list", name, "-c", "test:///default", cwd=tmp_path)
        assert (listed.returncode, listed.stdout) == (0, "No snapshots.\n"), listed
    refused = kvmstate("snapshot", "delete", "domain/test", "one", "--dry-run", "-c", "test:///default", cwd=tmp_path)
    assert "virtual machine test has no snapshot one" in refused.stderr


@pytest.mark.parametrize("said", ["50", "0.5", '"50"', "half"])
def test_a_share_that_is_not_one_is_told_what_one_looks_like(said: str, tmp_path: Path) -> None:
    (tmp_path / "kvmstate.yaml").write_text(f"project: lab\nmaxDeleteShare: {said}\n")
    done = kvmstate("validate", cwd=tmp_path)
    assert done.returncode == 1
    assert "maxDeleteShare: expected a share such as 50%; found" in done.stderr
    assert "in quotes" not in done.stderr


LIMITS = ("--prune", "--max-deletes=1", "--max-delete-share=50%")
NONE_THERE = [(command, option) for command in ("status", "drift", "adopt", "recreate", "destroy") for option in LIMITS]


@pytest.mark.parametrize(
    ("command", "option"), [*NONE_THERE, *((command, "--allow-empty") for command in ("status", "drift", "destroy"))]
)
def test_what_limits_deletions_is_an_option_only_where_it_counts(command: str, option: str, tmp_path: Path) -> None:
    done = kvmstate(command, option, cwd=tmp_path)
    assert (done.returncode, "no such option" in done.stderr.lower()) == (1, True), done
    for other in ("plan", "apply"):
        assert option.partition("=")[0] in kvmstate(other, "--help", cwd=tmp_path).stdout


def test_explain_says_what_every_field_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "VirtualMachine", "--costs"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["cpus"] == "grow: live up to maxCpus, shrink: restart"
    assert rows["disks[].volume"] == "live with device cdrom, else restart"
    assert rows["uuid"] == "refused"
    assert rows["arch"] == "replace"
    assert len(rows) > 900
    assert run(["explain", "VirtualMachine.interfaces", "--costs"]) == 0
    assert {line.partition(".")[0].strip() for line in capsys.readouterr().out.splitlines()} >= {"interfaces[]"}
    assert run(["explain", "--costs"]) == 1
