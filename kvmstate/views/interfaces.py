"""The links of a host as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from kvmstate.host.interfaces import Used
from kvmstate.host.kernel_links import Link
from kvmstate.views.formats import Output, markdown
from kvmstate.views.text import aligned, terminal_width

HEAD = ("NAME", "TYPE", "STATE", "MAC", "ADDRESSES", "PART OF", "USED BY")


def output(found: Sequence[Used]) -> Output:
    """What `kvmstate host interfaces` prints."""
    rows = [_cells(each) for each in found]
    return Output(
        lambda: {
            "format_version": "1.0",
            "interfaces": [{**asdict(each.link), "users": each.users, "defined": each.defined} for each in found],
        },
        lambda: "\n".join(aligned([HEAD, *rows], terminal_width())) if rows else "Nobody tells of its interfaces.",
        lambda: markdown.table(HEAD, rows),
    )


def _cells(each: Used) -> tuple[str, ...]:
    link = each.link
    state = "up" if link.up else "down"
    return (link.name, link.kind, state, link.mac or "-", ", ".join(link.addresses) or "-", _place(link), _who(each))


def _place(link: Link) -> str:
    where = [link.master, f"VLAN {link.vlan} on {link.over}" if link.vlan is not None else link.over]
    return ", ".join(filter(None, where)) or "-"


def _who(each: Used) -> str:
    return ", ".join(each.users) or "-"
