"""Versions of templates as a table and as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvmstate.plan.versions import Standing
from kvmstate.views.formats import Output, markdown
from kvmstate.views.text import aligned, terminal_width

FORMAT_VERSION = "1.0"
HEAD = ("TEMPLATE", "VERSION", "STATE", "LINKED", "FULL", "VOLUMES")


def output(found: Sequence[Standing], drawn: bool = False) -> Output:
    """What `kvmstate template list` prints; `drawn`: and `tree`."""
    rows = list(map(_cells, found))
    return Output(
        lambda: {"format_version": FORMAT_VERSION, "versions": list(map(_data, found))},
        lambda: (
            ("\n".join(_tree(found)) if drawn else "\n".join(aligned([HEAD, *rows], terminal_width())))
            if found
            else "no templates"
        ),
        lambda: markdown.table(HEAD, rows),
    )


def _cells(each: Standing) -> tuple[str, ...]:
    volumes = ", ".join(map(str, [*each.version.volumes.values(), *([each.domain] if each.domain else [])]))
    return (
        each.template,
        f"@{each.version.number}",
        each.state,
        str(len(each.linked)),
        str(len(each.full)),
        volumes,
    )


def _data(each: Standing) -> dict[str, Any]:
    return {
        "template": each.template,
        "version": each.version.number,
        "state": each.state.replace(" ", "_"),
        "in_force": each.current,
        "volumes": {disk: str(id_) for disk, id_ in each.version.volumes.items()},
        "domain": str(each.domain) if each.domain else None,
        "linked": list(map(str, each.linked)),
        "full": list(map(str, each.full)),
    }


def _tree(found: Sequence[Standing]) -> list[str]:
    lines: list[str] = []
    for name in dict.fromkeys(each.template for each in found):
        lines.append(f"template/{name}")
        versions = [each for each in found if each.template == name]
        for each in versions:
            last = each is versions[-1]
            kept = f", {each.domain}" if each.domain else ""
            lines.append(f"{'└─' if last else '├─'} @{each.version.number} ({each.state}{kept})")
            clones = [*((id_, "linked") for id_ in each.linked), *((id_, "full") for id_ in each.full)]
            for number, (id_, how) in enumerate(clones, 1):
                branch = "└─" if number == len(clones) else "├─"
                lines.append(f"{'  ' if last else '│ '} {branch} {id_} ({how})")
    return lines
