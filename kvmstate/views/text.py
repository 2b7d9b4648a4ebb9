"""Tables as text for people."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from kvmstate.model.printable import one_line

# What is left for the last column of a table is never less
LEAST = 20


def terminal_width() -> int | None:
    """Columns of the terminal that is written to; None where it is none: lines are not wrapped then."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def moment(seconds: float) -> str:
    """A time, in seconds since 1970, for people: in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def hanging(head: str, text: str, width: int | None) -> list[str]:
    """`head`, and `text` beside it, in as many lines as it needs; no word is cut that fits."""
    if width is None or len(head) + len(text) <= width:
        return [(head + text).rstrip()]
    room = max(LEAST, width - len(head))
    parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [(f"{head if not n else ' ' * len(head)}{part}").rstrip() for n, part in enumerate(parts)]


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows of cells as lines; the last column is as wide as it is, or wrapped at `width`."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    heads = ("".join(f"{cell.ljust(w)}  " for cell, w in zip(row, widths, strict=False)) for row in cells)
    return [line for head, row in zip(heads, cells, strict=True) for line in hanging(head, row[-1], width)]
