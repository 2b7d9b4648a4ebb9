"""A plan as a comment on a merge request: GitHub's and GitLab's Markdown.

Whatever comes from manifests and hosts stands in code, where no link, mention, table or tag begins; see
https://github.github.com/gfm/#code-spans and https://github.github.com/gfm/#html-blocks.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.views.formats.markdown import code, framed
from kvmstate.views.rows import Item, items, notes, summary

# Bytes: GitHub takes 65,536 in a comment, and whoever posts it adds words of their own.
LIMIT = 60_000
MOST_LINES = 200
# Longer differences are folded.
OPEN_LINES = 12


def render(plan: Plan, limit: int = LIMIT) -> str:
    """A summary, a table of resources, and what changes of each as a `diff`: `!` is what restarts, replaces or is
    blocked, `~` what changes in place. Never more than `limit` bytes: what is cut is counted."""
    found = items(plan)
    head = [f"### {summary(plan)}", "", f"Project {code(plan.project)} on {code(plan.host)}."]
    for note in notes(plan):
        head += ["", code(note)]
    parts = ["\n".join(head)]
    if found:
        rows, cut = _fitting((_table_row(item) for item in found), (limit - _size(parts[0])) // 3)
        table = ["", "| | resource | |", "|---|---|---|", *rows]
        parts.append("\n".join([*table, *([f"\n{cut} more resources are not listed here."] if cut else [])]))
    detailed = [item for item in found if item.rows or item.reason or item.hint]
    # room for the last sentence
    details, cut = _fitting((_details(item) for item in detailed), limit - sum(map(_size, parts)) - 200)
    parts += details
    if cut:
        parts.append(f"\nThe details of {cut} more resources are too long for a comment: `kvmstate plan` shows them.")
    return "\n".join(parts)


def _fitting(texts: Iterable[str], room: int) -> tuple[list[str], int]:
    """The first ones, as many as there is room for, and how many are left."""
    kept, cut = [], 0
    for text in texts:
        room -= _size(text)
        if room < 0:
            cut += 1
        else:
            kept.append(text)
    return kept, cut


def _size(text: str) -> int:
    return len(text.encode()) + 1


def _table_row(item: Item) -> str:
    cells = (code(item.symbol.strip()), code(item.address), item.verb)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _details(item: Item) -> str:
    lines = list(_lines(item))
    shown = [*lines[:MOST_LINES], *([f"# {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else [])]
    name = html.escape(f"{item.symbol.strip()} {item.address}".strip())
    opening = "<details open>" if len(lines) <= OPEN_LINES else "<details>"
    summary_line = f"{opening}<summary><code>{name}</code> {item.verb}</summary>"
    return "\n".join(["", summary_line, "", framed("\n".join(shown), "diff"), "", "</details>"])


def _lines(item: Item) -> Iterator[str]:
    if item.reason:
        yield f"! {item.reason}" if item.blocked else f"# {item.reason}"
    if item.hint:
        yield f"# hint: {item.hint}"
    for row in item.rows:
        costs = row.effect >= Effect.RESTART
        sign = f"{row.symbol} " if costs and row.symbol != "~" and row.text else ""
        text = f"{row.name}: {sign}{row.text}{f'   ({row.cost})' if row.cost else ''}"
        yield f"{'!' if costs else row.symbol} {text}".rstrip()
        yield from row.lines
