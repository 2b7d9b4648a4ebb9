"""Tables as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from kvmstate.model.printable import one_line


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines; the last column is as wide as it is."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in cells
    ]
