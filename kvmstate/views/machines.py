"""Virtual machines as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from kvmstate.views.formats import Output, markdown
from kvmstate.views.text import aligned, terminal_width

FORMAT_VERSION = "1.0"


@dataclass(frozen=True)
class Row:
    """`project` owns it, or nobody. `pending` are the fields that wait for a restart; `reason` says why it is in this
    state where that was nobody's wish, `note` what its manifest will do next."""

    name: str
    state: str
    project: str
    addresses: tuple[str, ...]
    pending: tuple[str, ...]
    io_errors: tuple[str, ...]
    reason: str
    note: str


HEAD = ("NAME", "STATE", "PROJECT", "ADDRESSES", "NOTE")


def output(host: str, rows: Sequence[Row]) -> Output:
    """What `kvmstate vm list` prints."""
    return Output(
        lambda: {"format_version": FORMAT_VERSION, "host": host, "machines": [asdict(row) for row in rows]},
        lambda: "\n".join(aligned([HEAD, *map(_cells, rows)], terminal_width())) if rows else "no virtual machines",
        lambda: markdown.table(HEAD, list(map(_cells, rows))),
    )


def _cells(row: Row) -> tuple[str, ...]:
    pending = f"waits for a restart: {', '.join(row.pending)}" if row.pending else ""
    errors = f"I/O error: {row.io_errors[-1]}" if row.io_errors else ""
    note = "; ".join(filter(None, (row.reason, errors, pending, row.note)))
    return row.name, row.state, row.project or "-", ", ".join(row.addresses) or "-", note
