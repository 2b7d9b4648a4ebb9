"""Words that were given up do not come back: in messages, help, docstrings, manifests, schemas and documentation.

The field's words are libvirt's, Kubernetes', Terraform's and systemd's. Beside each pattern stands what to write.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bleft the manifests?\b": "removed from the manifests",
    r"\banew\b": "again",
    r"\b(be|was|or|and) forgotten by\b|will be forgotten|to forget\b": "release; it stays on the host",
    r"\b(is|are|was|were) let go\b|\blets? it go\b": "remove, release, delete",
    r"\bhas gone from the (host|manifests)\b": "no longer exists on the host; was removed from the manifests",
    r"\bhas come to be\b": "now exists",
    r"\bstands? twice\b": "duplicate",
    r"\bnobody is there\b": "cannot ask for approval: stdin is not a terminal",
    r"\bdeclare nothing any more\b": "no longer declare any resources",
    r"\bhold(s|ing)? off\b|\bheld off\b": "reject",
    r"\b(is|are|be) told of (drift|failures)\b": "is notified of",
    r", uses it\"": "in use by X",
    r"\bwhole pass\b|\blook at all\b|\ball again\b": "full check, full resync",
    r"\bStandingBy\b|\bLeftManifests\b|\bEventsNotKept\b|\bInternalErrorOver\b": "the reason's new name",
    # "there is no X" is English
    r"(?<!there )(?<!There )\b(is|are|was|were) no (?!longer|more|other|such)[a-z]": "is not a",
    r"\b[Aa]nother kind:": "All other types:",
}
READ = (".py", ".yaml", ".md", ".sh", ".json", ".service", ".txt", ".j2")
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "kvmstate", "docs", "schemas", "manifests", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if name.endswith(READ)
]


def test_docstrings_say_first_what_a_function_does() -> None:
    """What it raises, or of what it is, comes after that."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {said.splitlines()[0]}"
        for path in FILES
        if path.suffix == ".py" and "kvmstate" in path.relative_to(ROOT).parts[:1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if (said := ast.get_docstring(node)) and re.match(r"(Raises|As|By|See|With|Of) ", said)
    ]
    assert found == []


@pytest.mark.parametrize(("pattern", "instead"), INSTEAD.items())
def test_given_up_words_do_not_come_back(pattern: str, instead: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        # what says which names are old
        if path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], f"write {instead!r} instead"
