"""Values that know where they were written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Node:
    """A value and its place. `value` is a scalar, a list of nodes, or a dict of (node, line and column of the key).

    An alias is the very node it names. `size` counts what it would be written out, `height` the levels below it.
    """

    __slots__ = ("column", "height", "line", "raw", "size", "value")
    size: int
    height: int

    def __init__(self, value: Any, line: int, column: int, children: Iterable[Node] = (), raw: str = "") -> None:
        self.value, self.line, self.column, self.raw = value, line, column, raw
        self.size, self.height = 1, 0
        for child in children:
            self.size += child.size
            if child.height >= self.height:
                self.height = child.height + 1

    def get(self, key: str | int) -> Node | None:
        """The child under a key or at a position of a list."""
        if isinstance(self.value, dict) and key in self.value:
            return self.value[key][0]  # type: ignore[no-any-return]
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]  # type: ignore[no-any-return]
        return None

    def key(self, key: str | int) -> tuple[int, int]:
        """Where a key is written."""
        if isinstance(self.value, dict) and key in self.value:
            return self.value[key][1], self.value[key][2]
        return self.line, self.column

    def data(self) -> Any:
        """Plain Python data."""
        if isinstance(self.value, dict):
            return {key: child.data() for key, (child, _, _) in self.value.items()}
        if isinstance(self.value, list):
            return [child.data() for child in self.value]
        return self.value
