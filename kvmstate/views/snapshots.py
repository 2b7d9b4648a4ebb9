"""Snapshots as a list and as a tree, for people and as JSON, which schemas/snapshots.schema.json describes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from kvmstate.model.printable import one_line
from kvmstate.model.quantity import Bytes
from kvmstate.snapshots.chain import Images, Machine, Snapshot
from kvmstate.snapshots.record import Record
from kvmstate.views.text import moment

FORMAT_VERSION = "1.0"
WIDEST = 64
T = TypeVar("T")


def table(machines: Iterable[Machine]) -> str:
    cells = [("MACHINE", "SNAPSHOT", "MODE", "MEMORY", "CREATED", "PARENT", "DESCRIPTION")]
    for machine in machines:
        for s in machine.snapshots:
            mark = f"{s.name} (current)" if s.is_current else s.name
            memory = "yes" if s.has_memory else "no"
            cells.append((machine.name, mark, s.mode, memory, moment(s.created), s.parent or "-", s.description))
    if len(cells) == 1:
        return "No snapshots."
    widths = [max(len(one_line(row[i])) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(one_line(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def tree(machine: Machine, images: Images) -> str:
    """The snapshots as they follow each other, then each disk's files as they lie on each other, the lowest first. What
    follows one thing alone stands right below it, branches are indented."""
    lines = [f"{machine.name} ({machine.state})", "  snapshots:" if machine.snapshots else "  no snapshots"]
    children: dict[str | None, list[Snapshot]] = {}
    for snapshot in sorted(machine.snapshots, key=lambda s: (s.created, s.name)):
        children.setdefault(snapshot.parent, []).append(snapshot)
    rows = _drawn(children.get(None, []), lambda s: children.get(s.name, []), lambda s: (s.name, _about(s)))
    lines += _aligned(rows)
    for disk in machine.disks:
        whose = {s.frozen[disk.target]: s.name for s in machine.snapshots if disk.target in s.frozen}
        chains = [images.chain(path, "qcow2") for path in whose] + [images.chain(disk.path, disk.format)]
        known = {image.path for chain in chains for image in chain}
        # a file that is missing has nothing below it
        roots = [path for path in (*known, *whose, disk.path) if not _below(images, path) & known]
        folder = posixpath.dirname(disk.path)
        files = _Files(images, disk.path, whose, known, folder)
        lines.append(f"  {disk.target}:  {folder}, each file on the one above")
        lines += _aligned(_drawn(sorted(set(roots)), files.above, files.row))
    return "\n".join(one_line(line) for line in lines)


def _below(images: Images, path: str) -> set[str | None]:
    return {image.backing for image in (images.by_path.get(path),) if image}


@dataclass(frozen=True)
class _Files:
    images: Images
    active: str
    whose: dict[str, str]
    known: set[str]
    folder: str

    def row(self, path: str) -> tuple[str, str]:
        """A file, and what there is to say about it."""
        image = self.images.by_path.get(path)
        name = posixpath.basename(path) if posixpath.dirname(path) == self.folder else path
        size = f"{image.format}, {Bytes(image.allocation)} of {Bytes(image.capacity)}" if image else "missing"
        notes = f"  = snapshot {self.whose[path]}" if path in self.whose else ""
        notes += "  <- in use" if path == self.active else ""
        if path not in self.known and image:
            users = ", ".join(sorted(self.images.users(path)))
            notes = f"  (used by {users})" if users else "  (used by nobody)"
        return name, f"{size}{notes}"

    def above(self, path: str) -> list[str]:
        """What lies on it: this machine's, and what would stand in the way of a merge."""
        found = sorted(image.path for image in self.images.above(path))
        return found if path in self.whose else [over for over in found if over in self.known]


def _drawn(
    nodes: Sequence[T], below: Callable[[T], Sequence[T]], row: Callable[[T], tuple[str, str]], indent: str = "    "
) -> Iterator[tuple[str, str]]:
    """Rows of a drawing and a text, of nodes side by side and all that follows them."""
    for node in nodes:
        alone, last = len(nodes) == 1, node is nodes[-1]
        mark, space = ("", "") if alone else ("└─ ", "   ") if last else ("├─ ", "│  ")
        name, text = row(node)
        yield f"{indent}{mark}{name}", text
        yield from _drawn(below(node), below, row, indent + space)


def _aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    listed = list(rows)
    # a name that is much longer than the others does not push their texts away
    width = max((len(one_line(left)) for left, _ in listed if len(left) <= WIDEST), default=0)
    return [f"{one_line(left).ljust(width)}  {text}" for left, text in listed]


def _about(snapshot: Snapshot) -> str:
    kind = "" if snapshot.external else ", internal"
    memory = ", with memory" if snapshot.has_memory else ""
    current = "  <- current" if snapshot.is_current else ""
    return f"{moment(snapshot.created)}{kind}{memory}{current}"


def as_json(machines: Iterable[Machine], images: Images | None = None) -> dict[str, object]:
    """`images` adds each disk's chain, the file that is written to first."""
    return {"format_version": FORMAT_VERSION, "machines": [_machine(machine, images) for machine in machines]}


def _machine(machine: Machine, images: Images | None) -> dict[str, object]:
    found: dict[str, object] = {
        "name": machine.name,
        "state": machine.state,
        "snapshots": [snapshot_as_json(snapshot) for snapshot in machine.snapshots],
    }
    if images:
        found["disks"] = [
            {
                "target": disk.target,
                "chain": [
                    {"path": i.path, "format": i.format, "capacity": i.capacity, "allocation": i.allocation}
                    for i in images.chain(disk.path, disk.format)
                ],
            }
            for disk in machine.disks
        ]
    return found


def snapshot_as_json(snapshot: Snapshot) -> dict[str, object]:
    record = Record.read(snapshot.description)
    return {
        "name": snapshot.name,
        "parent": snapshot.parent,
        "created": _iso(datetime.fromtimestamp(snapshot.created, UTC)),
        "mode": snapshot.mode,
        "memory": snapshot.has_memory,
        "state": snapshot.state,
        "current": snapshot.is_current,
        "description": snapshot.description,
        "policy": {"project": record.project, "name": record.policy, "at": _iso(record.at)} if record else None,
        "files": snapshot.frozen,
        "overlays": snapshot.overlays,
    }


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def fields(said: dict[str, Any]) -> str:
    """A line for each, those with several values with a line for each of them."""
    lines = []
    for name, value in said.items():
        parts = [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else value
        several = parts if isinstance(parts, list) else [parts]
        label = name.replace("_", " ") + ":"
        shown = [{True: "yes", False: "no", None: "-"}.get(part, part) for part in several] or ["-"]
        lines += [f"{label if not n else '':21} {one_line(str(part))}" for n, part in enumerate(shown)]
    return "\n".join(lines)
