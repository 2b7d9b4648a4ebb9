"""--format: the same on every command that prints, and --json means --format json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from kvmstate.cli import cli, run
from kvmstate.cli.formats import asked
from kvmstate.views.formats import FORMATS, TEXT

MANIFESTS = Path(__file__).parents[2] / "manifests"
# What prints nothing that another format could say, with the reason
WITHOUT = {
    "run": "it prints a log",
    "completion": "it prints a script",
    "man": "it prints a manual page",
    "schema": "it prints a JSON Schema",
    "sandbox start": "it prints a URI, for $(...)",
    "sandbox uri": "it prints a URI, for $(...)",
    "sandbox stop": "it prints nothing",
    "sandbox exec": "it prints what another program does",
    "sandbox run": "it prints what another program does",
    "vm console": "it is a terminal",
    "vm ssh": "it is what another program does",
    "vm exec": "it prints what another program does",
    "vm copy": "it prints a file",
    "vm screenshot": "it prints a file, or its name",
    "service install": "it prints what systemd does",
    "service guests install": "it prints what systemd does",
    "service guests uninstall": "it prints what systemd does",
    "service forwards install": "it prints where libvirt's hooks are",
    "service forwards uninstall": "it prints where libvirt's hooks are",
    "service uninstall": "it prints what systemd does",
    "service show": "it prints a unit file",
}


def commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}{each} ")
        else:
            yield f"{name}{each}", command


def test_every_command_that_prints_takes_a_format() -> None:
    found = dict(commands(cli))
    without = {name for name, command in found.items() if "fmt" not in {p.name for p in command.params}}
    assert without == set(WITHOUT)
    for name in found.keys() - without:
        (option,) = [p for p in found[name].params if p.name == "fmt"]
        assert set(FORMATS) <= set(option.type.choices), name
        assert any("--json" in p.opts for p in found[name].params), name


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(list(words)) == code, capsys.readouterr()
    return capsys.readouterr().out


def test_json_is_short_for_format_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("validate", str(MANIFESTS))
    long = said(capsys, *words, "--format", "json")
    assert json.loads(long)["valid"] is True
    assert long == said(capsys, *words, "--json") == said(capsys, *words, "--json", "--format=json")


@pytest.mark.parametrize(
    "words",
    [["--json", "--format", "text"], ["--format", "markdown", "--json"], ["--json", "--markdown"]],
    ids=" ".join,
)
def test_two_formats_are_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert run(["plan", str(MANIFESTS), *words]) == 1
    assert "are two formats" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("plan --json", "json"),
        ("plan --format json", "json"),
        ("plan --format=markdown", "markdown"),
        ("plan --format", "text"),
        ("plan --format nonsense", "text"),
        ("plan json", "text"),
        ("plan -- --json", "text"),
        ("sandbox run virsh --json", "text"),
    ],
)
def test_errors_come_in_the_format_that_was_asked_for(line: str, name: str) -> None:
    assert asked(line.split()).name == name


def test_an_error_is_data_for_programs_and_text_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in FORMATS:
        assert run(["graph", str(tmp_path / "none"), "--format", name]) == 1
        told = capsys.readouterr()
        assert ("no such file" in told.out) is (name in ("json", "yaml"))
        assert ("no such file" in told.err) is (name not in ("json", "yaml"))


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_says_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = said(capsys, "graph", str(MANIFESTS), "--format", name)
    assert "domain/web-1" in drawn
    if name == "yaml":
        assert yaml.safe_load(drawn) == json.loads(said(capsys, "graph", str(MANIFESTS), "--json"))
    elif name == "markdown":
        assert drawn.startswith("```mermaid\n")


def test_a_stream_for_programs_begins_with_a_version(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in ("apply", "destroy", "adopt", "recreate"):
        assert run([command, str(tmp_path / "none"), "--format", "json"]) == 1
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["type"] for line in lines] == ["version", "diagnostic"]


def test_text_is_what_is_printed_by_default() -> None:
    assert asked(["plan"]) == TEXT
