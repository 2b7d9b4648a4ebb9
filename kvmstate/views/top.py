"""What virtual machines use, as a table of the terminal's width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from kvmstate.host.stats import Sample, Usage
from kvmstate.model.printable import one_line
from kvmstate.views.formats import Output

FORMAT_VERSION = "1.0"
# Columns that a narrow terminal does without, the first ones first
_SPARE = ("IOPS", "%MEM", "STATE", "CPUS", "SIZE")
_NAME_LEAST, _LEAST = 12, 5

SORTS: dict[str, Callable[[Usage], object]] = {
    "cpu": lambda each: -(each.cpu or 0),
    "memory": lambda each: -(each.sample.used or 0),
    "disk": lambda each: -_sum(each, "disk_read_bytes", "disk_write_bytes"),
    "net": lambda each: -_sum(each, "net_rx_bytes", "net_tx_bytes"),
    "name": lambda each: each.sample.name,
}


def _sum(usage: Usage, *names: str) -> float:
    return sum(usage.rates.get(name) or 0 for name in names)


def _share(sample: Sample) -> str:
    """How much of its memory a guest uses, where it tells."""
    if not sample.used or not sample.memory or sample.usable is None:
        return "-"
    return f"{100 * sample.used / sample.memory:.0f}"


def short(number: float | None) -> str:
    """A number in five characters: 0, 950, 12K, 1.5M."""
    if number is None:
        return "-"
    for unit in ("", "K", "M", "G", "T"):
        if number < 999.5:
            return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"
        number /= 1024
    return f"{number:.0f}P"


COLUMNS: dict[str, Callable[[Usage], str]] = {
    "STATE": lambda each: each.sample.state,
    "CPUS": lambda each: str(each.sample.cpus),
    "%CPU": lambda each: "-" if each.cpu is None else f"{each.cpu:.1f}",
    "MEM": lambda each: short(each.sample.used),
    "SIZE": lambda each: short(each.sample.memory),
    "%MEM": lambda each: _share(each.sample),
    "READ/s": lambda each: short(each.rates.get("disk_read_bytes")),
    "WRITE/s": lambda each: short(each.rates.get("disk_write_bytes")),
    "IOPS": lambda each: (
        "-"
        if each.rates.get("disk_read_requests") is None
        else short(_sum(each, "disk_read_requests", "disk_write_requests"))
    ),
    "RX/s": lambda each: short(each.rates.get("net_rx_bytes")),
    "TX/s": lambda each: short(each.rates.get("net_tx_bytes")),
}


def output(host: str, found: Sequence[Usage], sort: str, width: int | None, note: str = "") -> Output:
    """What `kvmstate vm top` prints each time."""
    rows = sorted(found, key=lambda each: (SORTS[sort](each), each.sample.name))
    return Output(lambda: _data(host, rows), lambda: "\n".join(_lines(host, rows, width, note)))


def _data(host: str, rows: Sequence[Usage]) -> dict[str, object]:
    machines = [{**asdict(each.sample), "used": each.sample.used, "cpu": each.cpu, **each.rates} for each in rows]
    for each in machines:
        del each["at"]
    return {"format_version": FORMAT_VERSION, "host": host, "machines": machines}


def _lines(host: str, rows: Sequence[Usage], width: int | None, note: str) -> list[str]:
    # as wide as what comes may be, so that nothing jumps
    columns = {name: [name.rjust(_LEAST), *map(cell, rows)] for name, cell in COLUMNS.items()}
    names = ["NAME", *(one_line(each.sample.name) for each in rows)]
    cpu = sum(each.cpu or 0 for each in rows)
    memory = sum(each.sample.used or 0 for each in rows)
    count = f"{len(rows)} machine{'' if len(rows) == 1 else 's'}"
    head = f"{count}, {cpu:.0f}% of a CPU, {short(memory)} of memory   {one_line(host)}"
    longest = max(map(len, names))
    if width:
        for spare in _SPARE:
            if _wide(columns) + min(longest, _NAME_LEAST) > width:
                columns.pop(spare)
        room = max(_NAME_LEAST, width - _wide(columns))
        longest = min(longest, room)
        names = [name if len(name) <= room else f"{name[: room - 1]}…" for name in names]
    widths = {name: max(map(len, cells)) for name, cells in columns.items()}
    lines = []
    for n, name in enumerate(names):
        cells = (
            cells[n].strip().ljust(widths[column]) if column == "STATE" else cells[n].rjust(widths[column])
            for column, cells in columns.items()
        )
        lines.append("  ".join([name.ljust(longest), *cells]).rstrip())
    shown = [head[:width] if width else head, "", *lines]
    return [*shown, "", note[:width] if width else note] if note else shown


def _wide(columns: dict[str, list[str]]) -> int:
    return sum(2 + max(map(len, cells)) for cells in columns.values())
