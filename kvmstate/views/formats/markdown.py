"""Markdown for a comment on a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import click

from kvmstate.model.printable import one_line
from kvmstate.views.formats import Output

structured = False


def whole(output: Output) -> str:
    return output.markdown() if output.markdown else framed(click.unstyle(output.text()))


item = whole


def framed(text: str, language: str = "") -> str:
    """A block of code, whatever the text."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, whose cells are code."""
    body = [head, ["---"] * len(head), *([code(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in body)


def code(text: str) -> str:
    """A code span, whatever the text: delimited by more backticks than it has in a row."""
    text = one_line(text)
    if not text:
        return ""
    ticks = "`" * (_longest_run(text) + 1)
    pad = " " if "`" in text or text != text.strip() else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
