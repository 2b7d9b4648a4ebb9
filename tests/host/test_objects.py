"""libvirt's own objects are used in host/ only: elsewhere they are handles, which mypy knows."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "kvmstate"
# parameters and results of these names are objects of a host, of a type that mypy knows
ELSEWHERE = {"host", "sandbox", "web"}
OBJECTS = {"domain", "network", "pool", "volume", "connection"}
HOLDERS = {*OBJECTS, "host", "snapshot", "thing", "found", "machine", "each"}


def found_in(text: str) -> list[int]:
    """The lines that use what libvirt-python has made, or take an object of a host for anything."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr == "raw":
            lines += [node.lineno] if ast.unparse(node.value).rpartition(".")[2] in HOLDERS else []
        if isinstance(node, ast.arg) and node.arg in OBJECTS and node.annotation is not None:
            lines += [node.lineno] if ast.unparse(node.annotation) == "Any" else []
    return sorted(lines)


def test_elsewhere_nobody_uses_libvirts_own_objects() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ELSEWHERE and (lines := found_in(path.read_text()))
    }
    assert found == {}, "give host/ a function for it, with a handle (host/objects.py)"


def test_what_is_found() -> None:
    for text in (
        "domain.raw.destroy()",
        "self.host.raw.getURI()",
        "def f(domain: Any): pass",
        "def f(connection: Any) -> None: pass",
    ):
        assert found_in(text) == [1], text
    assert found_in("def f(domain: Domain, node: Any): domain.name") == []
