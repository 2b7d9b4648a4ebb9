"""The formats in which commands print: a file for each, of the name that --format takes.

A file has `structured` (for programs: errors are printed in it, and nobody is asked anything), `whole` (all that a
command prints) and `item` (one part of a stream).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FORMATS = ("text", "json", "yaml", "markdown")


@dataclass(frozen=True)
class Output:
    """What a command prints, before a format draws it; only what a format needs is worked out.

    `data` is for programs, `text` for people, and `markdown` for a comment, where it is not the text in a frame.
    """

    data: Callable[[], object]
    text: Callable[[], str]
    markdown: Callable[[], str] | None = None


@dataclass(frozen=True)
class Format:
    """A format by its name; its file is loaded when it is used."""

    name: str

    @property
    def structured(self) -> bool:
        """Whether programs read it."""
        return bool(self._file().structured)

    def whole(self, output: Output) -> str:
        """All that a command prints."""
        return str(self._file().whole(output))

    def item(self, output: Output) -> str:
        """One part of a stream, such as an event."""
        return str(self._file().item(output))

    def _file(self) -> Any:
        return importlib.import_module(f"{__name__}.{self.name}")


TEXT = Format("text")
