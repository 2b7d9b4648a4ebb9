"""The values that templates see: files and `--set`, merged deep, the later winning."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kvmstate.errors import Problem, UsageError
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.reach import HINT, Reach
from kvmstate.manifest.scalars import describe, resolve
from kvmstate.manifest.suggest import nearest
from kvmstate.manifest.text import MAX_BYTES, Reader
from kvmstate.model.files import open_regular

# Paths of what templates read, each with all below it; None where that cannot be told
Reads = frozenset[tuple[str, ...]] | None


def read_mapping(path: Path, label: str, reach: Reach | None = None) -> tuple[Node, list[Problem]]:
    """The one mapping that a file holds (an empty one for a file of comments), and what is wrong with it.

    With `reach` it was named by a file: it must lie there, and be a regular file.
    """
    reader = Reader(label)
    empty = Node({}, 1, 1)
    if reach and (why := reach.refused(path)):
        reader.report(why, hint=HINT)
        return empty, reader.problems
    try:
        with open_regular(path) if reach else path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
            # /dev/null is empty on purpose
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        documents = list(reader.documents(reader.decode(raw))) if raw or regular else []
    except OSError as error:
        reader.report(f"cannot be read: {error.strerror}")
        documents = []
    if len(documents) > 1:
        reader.report("expected one document; found several", documents[1].line, documents[1].column)
    if documents and not isinstance(documents[0].value, dict):
        reader.report(f"expected a mapping; found {describe(documents[0].value)}", documents[0].line, 1)
        return empty, reader.problems
    return (documents[0] if documents else empty), reader.problems


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """`over` on `base`: mappings are merged, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def assignments(texts: Iterable[str]) -> dict[str, object]:
    """`a.b=c` as {"a": {"b": "c"}}; scalars are YAML's. Raises UsageError."""
    values: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        keys = name.split(".")
        if not equals or not all(keys) or len(keys) > 64:
            raise UsageError(
                f"--set {text}: expected NAME=VALUE", "nested values are named with dots: --set web.memory=2GiB"
            )
        try:
            item: Any = resolve(value)
        except ValueError as error:
            raise UsageError(f"--set {name}: {error}") from None
        for key in reversed(keys):
            item = {key: item}
        values = merge(values, item)
    return values


def is_read(name: str, reads: Reads) -> bool:
    """Whether a template may read this value, such as `web.memory`, or a part of it."""
    return reads is None or bool(_near(tuple(name.split(".")), reads))


def unread(values: Mapping[str, Any], reads: Reads, at: str = "") -> Iterator[str]:
    """The names of what no template reads; of a mapping of which nothing is read, its own."""
    for key, value in values.items():
        name = f"{at}{key}"
        if not is_read(name, reads):
            yield name
        elif reads is not None and isinstance(value, Mapping):
            path = tuple(name.split("."))
            if all(len(read) > len(path) for read in _near(path, reads)):
                yield from unread(value, reads, f"{name}.")


def _near(path: tuple[str, ...], reads: frozenset[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """What is read of this, or of what it is in."""
    return [read for read in reads if read[: len(path)] == path[: len(read)]]


def meant(name: str, reads: Reads) -> str:
    """A hint for the name of a value that no template reads."""
    if not reads:
        return "values are for templates: manifests named *.yaml.j2"
    guess = nearest(name, (".".join(read) for read in reads))
    return f"did you mean {guess}?" if guess else ""
