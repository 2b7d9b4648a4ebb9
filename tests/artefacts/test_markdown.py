"""`plan --markdown`: a comment that fits, and in which nothing of a manifest's becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from click import unstyle

from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId
from kvmstate.views import markdown, plan
from kvmstate.xmlbind import diff
from tests.artefacts.conftest import MACHINE, POOL, VOLUME, Project

HOSTILE = "``` @team <img src=x> | [a](http://b) \x1b[31m \u202e </details>"


def created(name: str, **spec: Any) -> Change:
    made = BY_WORD["domain"].adapter.validate_python({"memory": "1GiB", **spec})
    return Change(ResourceId("domain", name), Action.CREATE, spec=made, fields=tuple(diff(made, None)))


def prose(text: str) -> str:
    """What is left of Markdown once code is taken out: fences, spans and HTML's code."""
    text = re.sub(r"^(`{3,})diff\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<code>.*?</code>", "", text)
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


def test_a_plan_has_a_summary_a_table_and_differences(kvmstate: Project) -> None:
    kvmstate("apply", "--auto-approve")
    spec = {**MACHINE["spec"], "cpus": 2, "title": "new", "description": "one\ntwo", "interfaces": []}
    kvmstate.write(POOL, VOLUME, {**MACHINE, "spec": spec})
    said = kvmstate("plan", "--markdown").out
    assert said.startswith("### Plan: 0 to add, 1 to change, 0 to destroy.\n")
    assert "Project `shop` on `test:///default`." in said
    assert "| `~` | `domain/web-1` | will be updated in place |" in said
    difference = re.search(r"```diff\n(.*?)\n```", said, re.DOTALL)
    assert difference
    assert "~ cpus: 1 -> 2" in difference[1].splitlines()
    assert "+ title: new" in difference[1].splitlines()
    assert "+ two" in difference[1].splitlines()
    assert any(line.startswith("- interfaces[") for line in difference[1].splitlines())


def test_what_restarts_stands_out(kvmstate: Project) -> None:
    kvmstate.write(POOL, VOLUME, {**MACHINE, "spec": {**MACHINE["spec"], "state": "running"}})
    kvmstate("apply", "--auto-approve")
    spec = {**MACHINE["spec"], "state": "running", "cpus": 2, "smbios": "host"}
    kvmstate.write(POOL, VOLUME, {**MACHINE, "spec": spec})
    said = kvmstate("plan", "--markdown").out.splitlines()
    assert "! cpus: 1 -> 2   (restart required)" in said
    assert "! smbios: + host   (restart required)" in said


def test_nothing_of_a_manifest_becomes_markup() -> None:
    change = created(f"a{HOSTILE}".replace("/", ""), description=HOSTILE, title=HOSTILE)
    blocked = replace(created("b"), blocked=HOSTILE, hint=HOSTILE)
    noted = Plan(HOSTILE, HOSTILE, (change, blocked), (), (HOSTILE,))
    said = markdown.render(noted)
    rest = prose(said)
    for mark in ("@team", "<img", "](", "\x1b", "\u202e"):
        assert mark not in rest, rest
    assert rest.count("</details>") == rest.count("<details")
    table = [line for line in said.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in table), table
    assert "\x1b" not in said
    assert "\u202e" not in said


@pytest.mark.parametrize(("count", "length"), [(2000, 10), (50, 5000), (3, 100_000), (1, 10)])
def test_a_comment_is_never_too_long_and_counts_what_is_cut(count: int, length: int) -> None:
    text = "\n".join("ä" * 80 for _ in range(length // 80 + 1))
    changes = tuple(created(f"machine-{n}", description=text, title="x" * min(length, 3000)) for n in range(count))
    said = markdown.render(Plan("p", "h", changes))
    assert len(said.encode()) <= markdown.LIMIT
    shown = said.count("<details")
    cut = re.search(r"The details of (\d+) more resources", said)
    assert shown + int(cut[1] if cut else 0) == count
    assert f"Plan: {count} to add" in said


def test_long_differences_are_folded(kvmstate: Project) -> None:
    long = "\n".join(f"line {n}" for n in range(40))
    kvmstate.write(POOL, VOLUME, {**MACHINE, "spec": {**MACHINE["spec"], "description": long}})
    said = kvmstate("plan", "--markdown").out
    assert "<details open><summary><code>+ pool/images</code>" in said
    assert "<details><summary><code>+ domain/web-1</code>" in said


def test_no_changes_are_said_in_one_line(kvmstate: Project) -> None:
    kvmstate("apply", "--auto-approve")
    assert kvmstate("plan", "--markdown").out == "### No changes.\n\nProject `shop` on `test:///default`.\n"


def test_json_and_markdown_are_two_outputs(kvmstate: Project) -> None:
    assert kvmstate("plan", "--markdown", "--json").code == 1


def test_no_control_character_reaches_a_terminal() -> None:
    change = created("a\x1b]0;x\x07", description=HOSTILE, title=HOSTILE)
    blocked = replace(created("b"), blocked=HOSTILE, hint=HOSTILE)
    said = unstyle(plan.render(Plan(HOSTILE, HOSTILE, (change, blocked), (), (HOSTILE,))))
    assert all(char.isprintable() or char == "\n" for char in said), said
    assert "\\x1b[31m \\u202e" in said


def test_long_values_show_where_they_differ() -> None:
    old = created("a", description="x" * 500 + "old" + "y" * 500).spec
    new = created("a", description="x" * 500 + "new" + "y" * 500).spec
    change = Change(ResourceId("domain", "a"), Action.UPDATE, spec=new, fields=tuple(diff(new, old)))
    said = plan.render(Plan("p", "h", (change,)))
    assert "- ...xxxxxxxxxxxxxxxxxxxxxxxxoldyyy" in said
    assert "+ ...xxxxxxxxxxxxxxxxxxxxxxxxnewyyy" in said
    assert max(map(len, said.splitlines())) < 250


def test_several_lines_are_shown_as_a_difference() -> None:
    old = created("a", description="\n".join(f"line {n}" for n in range(50))).spec
    new = created("a", description="\n".join(f"line {n}" for n in range(50) if n != 25)).spec
    change = Change(ResourceId("domain", "a"), Action.UPDATE, spec=new, fields=tuple(diff(new, old)))
    shown = [unstyle(line).strip() for line in plan.render(Plan("p", "h", (change,))).splitlines()]
    assert shown[2:5] == ["line 24", "- line 25", "line 26"]
