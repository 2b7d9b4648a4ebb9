"""docs/reference/live-networks.md says of each field of networks and filters how a change of it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmstate.kinds import BY_NAME
from kvmstate.kinds.network.live import SECTIONS, lists_of
from kvmstate.manifest.cost import table as cost_table

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "live-networks.md"
# live without virNetworkUpdate
CALLS = {
    "active": "starts or stops it",
    "autostart": "virNetworkSetAutostart",
    **dict.fromkeys(("title", "description", "portForwards"), "definition, which holds at once"),
}
FILTER = "definition, which holds at once for running machines"


def way(kind: str, field: str, cost: str) -> str:
    """How a change of a field is made that needs no restart; empty for one that does."""
    if cost == "refused":
        return ""
    if kind == "NetworkFilter":
        return FILTER
    if cost == "restart":
        return ""
    if lists := [SECTIONS[row] for row in lists_of(plain(field).split("."))]:
        return ", ".join(f"{section.name} ({'add, modify' if section.alters else 'delete, add'})" for section in lists)
    return CALLS[field.partition("[]")[0]]


def plain(field: str) -> str:
    return field.replace("[]", "")


def rows(kind: str) -> dict[str, tuple[str, str]]:
    """What a change of each field is, and how it is made."""
    costs = dict(cost_table(BY_NAME[kind]))
    # another spelling of the address
    return {plain(row): (cost, way(kind, row, cost)) for row, cost in costs.items() if not row.endswith(".netmask")}


def inside(field: str, found: dict[str, tuple[str, str]]) -> bool:
    """Whether it is a part of what is changed as a whole: of an item of a live list, or of what all needs a restart."""
    parts = field.split(".")
    above = [".".join(parts[:length]) for length in range(1, len(parts))]
    return any(
        found[row][1] or not any(by and each.startswith(f"{row}.") for each, (_, by) in found.items()) for row in above
    )


def table() -> Iterator[str]:
    """As the documentation has it: fields beside each other that are changed the same way in a row."""
    yield "| kind | field | a change is | by |"
    yield "|---|---|---|---|"
    for kind in ("Network", "NetworkFilter"):
        found, told = rows(kind), dict[tuple[str, str, str], list[str]]()
        for field, (cost, by) in found.items():
            if not inside(field, found):
                told.setdefault((field.rpartition(".")[0], "live" if by else cost, by), []).append(field)
        for (_, cost, by), fields in told.items():
            yield f"| {kind} | {', '.join(f'`{field}`' for field in fields)} | {cost} | {by} |"


def test_the_documentation_says_how_each_field_is_changed(request: pytest.FixtureRequest) -> None:
    """`pytest --regenerate` on this file writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split("\n|", 1)
    _, mark, measured = rest.partition("\n\n## Measured")
    wanted = "\n".join([before, *table()]) + (mark + measured or "\n")
    if request.config.getoption("--regenerate"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert text == wanted


def test_each_list_that_libvirt_updates_is_a_live_field() -> None:
    found = rows("Network")
    assert [row for row in SECTIONS if found[row] != ("live", way("Network", row, "live"))] == []
