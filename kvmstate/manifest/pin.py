"""Checksums of contents in the files that people write: found, and written beside the address that they are of."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvmstate.manifest.edit import beside
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.text import Reader

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A content that comes from an address. `path` begins with the number of the document in its file."""

    path: Path
    url: str
    checksum: str
    checksums: str
    line: int
    column: int


def places(text: str) -> list[Place]:
    """Those of a text; none of what is not YAML."""
    return [_place(path, node) for path, node in _contents(text)]


def with_checksum(text: str, place: Place, checksum: str) -> str | None:
    """The text with the checksum in that place, and nothing else changed; None where it is written in a way that is not
    foreseen."""
    node = dict(_contents(text))[place.path]
    wanted = copy.deepcopy(_data(text))
    below: Any = wanted
    for part in place.path:
        below = below[part]
    below["checksum"] = checksum
    return next((edited for edited in _candidates(text, node, checksum) if _data(edited) == wanted), None)


def _candidates(text: str, node: Node, checksum: str) -> Iterator[str]:
    if (known := node.get("checksum")) is None:
        url = node.get("url")
        assert url is not None
        yield from beside(text, node.key("url"), url.line, f"checksum: {checksum}")
    else:
        lines = text.splitlines(keepends=True)
        line, column = known.line - 1, known.column - 1
        rest = lines[line][column:]
        lines[line] = lines[line][:column] + rest.replace(str(known.value), checksum, 1)
        yield "".join(lines)


def _documents(text: str) -> list[Node]:
    reader = Reader("")
    found = list(reader.documents(text.removeprefix("\ufeff")))
    return [] if reader.problems else found


def _data(text: str) -> list[Any]:
    return [document.data() for document in _documents(text)]


def _contents(text: str) -> Iterator[tuple[Path, Node]]:
    for number, document in enumerate(_documents(text)):
        version = document.get("apiVersion")
        if version and str(version.value).startswith("kvmstate/"):
            yield from _below(document, (number,))


def _below(node: Node, at: Path) -> Iterator[tuple[Path, Node]]:
    if isinstance(node.value, dict):
        if at[-1] == "content" and isinstance(getattr(node.get("url"), "value", None), str):
            yield at, node
            return
        for key, (child, _, _) in node.value.items():
            yield from _below(child, (*at, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from _below(child, (*at, index))


def _place(path: Path, node: Node) -> Place:
    url, checksum, checksums = (
        str(found.value) if (found := node.get(key)) and found.value is not None else ""
        for key in ("url", "checksum", "checksums")
    )
    return Place(path, url, checksum, checksums, *node.key("url"))
