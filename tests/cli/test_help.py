"""What people see first: help in groups, in 80 columns, and a hint for verbs that belong to other programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kvmstate.cli import COMMANDS, GROUPS, cli, run
from kvmstate.cli.elsewhere import ELSEWHERE

MANIFESTS = Path(__file__).parents[2] / "manifests"


def helps(group: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(click.Context(group)):
            below = group.get_command(click.Context(group), name)
            assert below
            yield from helps(below, (*path, name))


@pytest.mark.parametrize("words", list(helps()), ids=lambda words: " ".join(words) or "kvmstate")
def test_help_fits_80_columns_and_no_summary_is_cut(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in ("80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        assert run([*words, "--help"]) == 0
        said = capsys.readouterr().out
        assert [line for line in said.splitlines() if len(line) > 80] == []
        for block in re.findall(r"^(?:Commands|[A-Z][a-z ]+):\n((?:  .*\n)+)", said, re.MULTILINE):
            assert not [line for line in block.splitlines() if re.match(r"  [a-z]+ .*\.\.\.$", line)]


def test_what_does_nothing_on_a_command_is_not_an_option_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    # who holds a lock is not in manifests; a graph and a check of manifests choose no host
    nothing = {"unlock": ("--values", "--set", "--allow-path"), "graph": ("--confined",), "validate": ("--confined",)}
    for name, options in nothing.items():
        command = cli.get_command(click.Context(cli), name)
        assert command
        assert not {option for param in command.params for option in param.opts} & set(options)
    # a daemon tells what changes; without --watch nobody asks it
    assert run(["status", "--daemon", "127.0.0.1:9477"]) == 1
    assert "--watch" in capsys.readouterr().err


def test_every_command_is_in_one_group() -> None:
    assert set(Counter(name for names in GROUPS.values() for name in names).values()) == {1}


@pytest.mark.parametrize("verb", sorted(ELSEWHERE))
def test_a_verb_of_another_program_is_answered_with_what_does_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb not in COMMANDS
    assert run([verb, "web-1"]) == 1
    hint = capsys.readouterr().err.partition("hint: ")[2]
    assert hint.strip() == ELSEWHERE[verb]
    named = re.findall(r"kvmstate ([a-z]+)", hint)
    assert "kvmstate --" in hint or named or re.search(r"(virsh|virt-viewer|virt-top) ", hint)
    assert set(named) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("plan --target domain/w", ["domain/web-1"]),
        ("apply --exclude network/", ["network/backend", "network/lan"]),
        ("suspend pool", ["pool/images"]),
        ("adopt domain/d", ["domain/db-1"]),
        ("snapshot create w", ["web-1"]),
        ("snapshot revert d", ["db-1"]),
        ("pla", ["plan"]),
        ("plan --format m", ["markdown"]),
    ],
)
def test_the_shell_completes_addresses(words: str, found: list[str]) -> None:
    told = completed(MANIFESTS, words)
    assert [line.partition(",")[2] for line in told] == found


def test_broken_manifests_complete_nothing_and_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "kvmstate.yaml").write_text("project: [\n")
    assert completed(tmp_path, "suspend d") == []


def completed(folder: Path, words: str) -> list[str]:
    split = ["kvmstate", *words.split(" ")]
    env = {**os.environ, "_KVMSTATE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(split)}
    env["COMP_CWORD"] = str(len(split) - 1)
    program = [sys.executable, "-c", "from kvmstate.cli import main; main()"]
    done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_what_a_hint_says_can_be_read_by_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dumpxml", "--json"]) == 1
    assert "virsh" in json.loads(capsys.readouterr().out)["diagnostics"][0]["hint"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"{shell}_complete" in capsys.readouterr().out


def test_the_manual_page_has_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["man"]) == 0
    page = capsys.readouterr().out
    for words in helps():
        assert " ".join(words).replace("-", "\\-") in page
    said = page.replace("\\-", "-")
    assert "--take-ownership" in said
    assert "/healthz" in said
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-z"], input=page, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
