"""Whoever listens, and whatever becomes of what is said: the exit code is that of the work."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmstate.cli import acts

ROOT = Path(__file__).parents[2]
MAIN = "from kvmstate.cli import main; main()"
KVMSTATE = f"{shlex.quote(sys.executable)} -c {shlex.quote(MAIN)}"
NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: lan}\nspec: {}\n"
MANY = "---\n".join(NETWORK.replace("lan", f"lan{number}") for number in range(500))
TEST_DRIVER = "test:///default"


def shell(command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`kvmstate` in it is this one; the exit code is that of the first command of a pipe."""
    script = f'set -o pipefail; kvmstate() {{ {KVMSTATE} "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(MANY)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} | head -0", 0),
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} | head -1", 0),
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} --detailed-exitcode | head -0", 2),
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} --json | head -1", 0),
        ("kvmstate schema | head -0", 0),
        ("kvmstate explain VirtualMachine | head -1", 0),
        ("kvmstate --help | head -0", 0),
        ("kvmstate validate m.yaml >&-", 0),
        ("kvmstate validate m.yaml 2>&-", 0),
        ("kvmstate validate m.yaml <&- >&- 2>&-", 0),
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} 2>&-", 0),
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} 2>/dev/full", 0),
        (f"kvmstate plan m.yaml -c {TEST_DRIVER} --detailed-exitcode >&-", 2),
        ("kvmstate validate nowhere.yaml 2>/dev/full", 1),
        ("kvmstate validate nowhere.yaml 2>&-", 1),
        ("kvmstate nonsense 2>&1 | head -0", 1),
    ],
)
def test_who_does_not_listen_changes_nothing(folder: Path, command: str, code: int) -> None:
    done = shell(command, folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize("words", ["schema", "validate m.yaml --json", f"plan m.yaml -c {TEST_DRIVER}", "--version"])
def test_what_was_asked_for_and_cannot_be_written_is_an_error(folder: Path, words: str) -> None:
    done = shell(f"kvmstate {words} >/dev/full", folder)
    assert done.returncode == 1
    if "--json" not in words:
        assert done.stderr == "error: the output could not be written: No space left on device\n"


def test_work_that_cannot_be_told_is_done(folder: Path) -> None:
    done = shell("kvmstate init shop >/dev/full && kvmstate validate shop", folder)
    assert done.returncode == 0, done.stderr
    assert "could not be written" in done.stderr
    for words, does in (
        ("apply m.yaml", True),
        ("snapshot delete a b", True),
        ("snapshot list", False),
        ("plan", False),
    ):
        assert acts(words.split()) is does


def test_a_stream_that_does_not_block_gets_all(folder: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "plan", "m.yaml", "-c", TEST_DRIVER],
        cwd=folder,
        stdout=writing,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(writing)
    time.sleep(1)
    with open(reading) as file:
        said = file.read()
    assert process.wait(30) == 0
    assert said.count("will be created") == 500


def test_characters_that_the_terminal_lacks_are_shown_all_the_same(folder: Path) -> None:
    (folder / "m.yaml").write_text(NETWORK.replace("lan", "\u65e5"))
    done = shell(f"kvmstate plan m.yaml -c {TEST_DRIVER}", folder, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "network/\\u65e5" in done.stdout


def test_a_folder_that_was_deleted_is_needed_only_by_what_is_named_from_it(folder: Path) -> None:
    gone = "mkdir gone && cd gone && rmdir ../gone && "
    for words in ("plan", "validate m.yaml", "status", "init shop"):
        done = shell(f"{gone} kvmstate {words} ", folder)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "deleted" in done.stderr or "no such file" in done.stderr
        assert "bug" not in done.stderr
    (folder / "t.yaml.j2").write_text(NETWORK)
    for words in (f"validate {folder}", f"plan {folder} -c {TEST_DRIVER}", "explain Network", "--version"):
        done = shell(f"{gone} kvmstate {words}", folder)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_too_little_memory_is_no_bug(folder: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (120 << 20, 120 << 20))

    done = subprocess.run(
        [sys.executable, "-c", MAIN, "plan", "m.yaml", "-c", TEST_DRIVER],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode != 0
    assert "bug in kvmstate" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_by_its_number(number: signal.Signals, tmp_path: Path) -> None:
    at_work = "lambda what: (print('at work', flush=True), time.sleep(30))"
    script = f"import time, kvmstate.cli.explain as e\ne.find = {at_work}\n{MAIN}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "explain", "Network"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert process.stdout.readline() == "at work\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert said.strip() == "interrupted"


@pytest.mark.parametrize("view", ["Lines()", "Stream(Format('json'))"])
def test_no_view_raises_when_its_reader_has_gone(view: str, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from kvmstate.cli import output; output.install()\n"
        "from tests_view import *\n"
        f"with {view} as lines:\n"
        "    told(lines)\n"
        "print('done', file=open(3, 'w'))"
    )
    (tmp_path / "tests_view.py").write_text(
        "from kvmstate.apply import Event, EventKind\n"
        "from kvmstate.model.change import Action, Change\n"
        "from kvmstate.model.resource import ResourceId\n"
        "from kvmstate.views.apply import Lines\n"
        "from kvmstate.views.apply_json import Stream\n"
        "from kvmstate.views.formats import Format\n"
        "def told(lines):\n"
        "    change = Change(ResourceId('domain', 'web'), Action.UPDATE)\n"
        "    for number in range(2000):\n"
        "        for kind in EventKind:\n"
        "            lines(Event(kind, change, 'x' * 100))\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} 3>done 2>&1 | head -1"
    done = shell(command, tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert (tmp_path / "done").read_text() == "done\n"
    assert "Traceback" not in done.stdout + done.stderr
