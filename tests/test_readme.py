"""The examples of README and docs/ are what the program does: run here when they need no host, else seen in the demo's
output."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from prepared import execute

from kvmstate.cli import COMMANDS
from kvmstate.cli.elsewhere import ELSEWHERE
from kvmstate.manifest.project import load_project
from kvmstate.model.change import Action
from kvmstate.reconcile.status_store import Sync

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "script"))
from reference import texts  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))]
BLOCKS = [
    textwrap.dedent(block).strip("\n")
    for text in TEXTS
    for block in re.findall(r"^(?:    .*\n|\n)+", text, re.MULTILINE)
]
# each begins with a command, and has what that prints
SHOWN = [block for block in BLOCKS if block.startswith("$ ")]
MANIFESTS = [block for block in BLOCKS if block.startswith("apiVersion: ")]
SETTINGS = [block for block in BLOCKS if block.startswith(("moved:", "reconcile:", "environments:", "project:"))]
POOLS = [spec for block in BLOCKS if block.startswith("{type:") for spec in re.split(r"\n(?=\{)", block)]
OFFLINE = [block for block in SHOWN if block.startswith(("$ kvmstate validate ", "$ kvmstate explain "))]


def kvmstate(*args: str) -> subprocess.CompletedProcess[str]:
    done = execute(*args, cwd=ROOT, env={**os.environ})
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def squeezed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("block", OFFLINE, ids=lambda block: block.splitlines()[0])
def test_it_prints_what_the_tour_shows(block: str) -> None:
    command, _, output = block.partition("\n")
    assert squeezed(kvmstate(*shlex.split(command)[2:]).stdout) == squeezed(output)


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_demo_runs_to_its_end_and_prints_what_the_tour_shows() -> None:
    """The demo checks itself: plan, apply, a live edit with the guest's own view, drift, destroy. `script/trials demo`
    boots a cloud image as well."""
    whole = "KVMSTATE_DEMO" in os.environ
    words = [str(ROOT / "script" / "demo"), *([] if whole else ["--short"])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "The same boot: nothing restarted." in done.stdout
    assert ("  logged in as debian on web-1, Debian GNU/Linux" in done.stdout) == whole
    for block in SHOWN:
        if block not in OFFLINE:
            assert squeezed(block) in squeezed(done.stdout), block


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda text: text.splitlines()[1])
def test_its_manifests_are_valid(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(manifest)
    for image in re.findall(r"\{file: ([\w.-]+)\}", manifest):
        (tmp_path / image).touch()
    done = kvmstate("validate", str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda text: text.splitlines()[0])
def test_its_settings_are_valid(settings: str, tmp_path: Path) -> None:
    named = "" if settings.startswith("project:") else "project: lab\n"
    (tmp_path / "kvmstate.yaml").write_text(f"{named}{settings}\n")
    for values in re.findall(r"values[\w-]*\.yaml", settings):
        (tmp_path / values).write_text("web: {}\n")
    (tmp_path / "manifests").mkdir()
    load_project(tmp_path)


@pytest.mark.parametrize("spec", POOLS)
def test_its_pools_are_valid(spec: str, tmp_path: Path) -> None:
    head = "apiVersion: kvmstate/v1\nkind: StoragePool\nmetadata: {name: images}\nspec: "
    (tmp_path / "manifest.yaml").write_text(head + " ".join(spec.split()) + "\n")
    done = kvmstate("validate", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short_and_names_every_command() -> None:
    assert len(README.splitlines()) <= 150
    table = README.split("| command | does |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z]+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(named) == sorted(COMMANDS)


def test_the_readme_says_how_to_test_and_demonstrate() -> None:
    """CI runs what people are told to run."""
    for command in ("script/demo", "script/test"):
        assert f"\n\n    {command}\n\n" in README
    assert '/../script/test"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_what_kvmstate_does_not_do_is_what_its_hints_say() -> None:
    table = README.split("| to | type |")[1].split("\n\n")[0]
    for command in re.findall(r"`((?:virsh|virt-viewer) [^`]*)`", table):
        assert any(command in hint for hint in ELSEWHERE.values()), command


def test_the_reference_is_fresh() -> None:
    stale = [n for n, text in texts().items() if text != (ROOT / "docs" / n).read_text(encoding="utf-8")]
    assert stale == [], "run: script/docs reference"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_the_reference_has_every_state_of_resources() -> None:
    page = (ROOT / "docs" / "reference" / "output.md").read_text(encoding="utf-8")
    states = {sync.value for sync in Sync} | {action.value.sync for action in Action} - {""}
    assert states == set(re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE))


def test_the_site_has_every_page() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    told = set(re.findall(r"[\w./-]+\.md", str(site["project"]["nav"])))
    assert told == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
