"""The state of a project's resources, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from kvmstate.kind import Space
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.printable import in_words
from kvmstate.model.quantity import about
from kvmstate.model.resource import ResourceId
from kvmstate.views.formats import Output, markdown
from kvmstate.views.text import aligned, moment, terminal_width

if TYPE_CHECKING:
    from kvmstate.host.clients import Address, Client

FORMAT_VERSION = "1.0"


@dataclass(frozen=True)
class Row:
    address: str
    state: str
    sync: str
    note: str
    space: Space | None = None
    """Of a storage pool, as of libvirt's last look at it."""
    addresses: tuple[str, ...] = ()
    """Of a guest that runs: the IP addresses that its host knows."""
    users: tuple[str, ...] | None = None
    """Who uses it, where that was asked."""
    clients: tuple[Client, ...] | None = None
    """Of a network: the interfaces on it, where that was asked."""


def rows(
    plan: Plan,
    addresses: Mapping[ResourceId, Sequence[str]] = MappingProxyType({}),
    users: Mapping[ResourceId, tuple[str, ...]] | None = None,
    clients: Mapping[ResourceId, Sequence[Client]] = MappingProxyType({}),
) -> list[Row]:
    waits = {change.id for change in plan.waiting}
    found = [_row(change, change.id in waits, addresses.get(change.id, ())) for change in plan.changes]
    if users is not None:
        used = zip(found, (change.id for change in plan.changes), strict=True)
        found = [replace(row, users=users.get(id_, ()), clients=_given(clients.get(id_))) for row, id_ in used]
    return sorted(found, key=lambda row: row.address)


def _row(change: Change, waits: bool, addresses: Sequence[str]) -> Row:
    seen = change.observed
    sync = change.action.value.sync or ("Unknown" if seen is None else "RestartPending" if waits else "InSync")
    if change.suspended:
        sync = "Suspended"
    elif change.blocked and change.action is not Action.ADOPT:
        sync = "Blocked"
    elif change.action is Action.NOOP and change.desired is None:
        sync = "Orphaned"
    fields = change.shown or (change.waiting if waits else ())
    note = change.blocked or change.reason or ", ".join(f.where for f in fields if seen is not None)
    space = BY_WORD[change.id.kind].ops.space(seen) if seen else None
    return Row(str(change.id), seen.state if seen else "-", sync, note, space, tuple(addresses))


def _given(found: Sequence[Client] | None) -> tuple[Client, ...] | None:
    return None if found is None else tuple(found)


HEAD = ("RESOURCE", "STATE", "SYNC", "NOTE")


def output(plan: Plan, table: list[Row], notes: list[str]) -> Output:
    """What `kvmstate status` prints."""
    return Output(
        lambda: as_json(plan, table),
        lambda: "\n".join([render(table), *_networks(table), *notes]),
        lambda: "\n\n".join([markdown.table(HEAD, _cells(table)), *_networks_as_markdown(table), *notes]),
    )


def render(table: list[Row]) -> str:
    if not table:
        return "This project owns nothing here, and its manifests declare no resources."
    return "\n".join(aligned([HEAD, *_cells(table)], terminal_width()))


def _cells(table: list[Row]) -> list[tuple[str, ...]]:
    return [
        (
            r.address,
            r.state,
            in_words(r.sync),
            "; ".join(filter(None, (_room(r.space), ", ".join(r.addresses), _used(r.users), r.note))),
        )
        for r in table
    ]


ON_NETWORK = ("MACHINE", "DEVICE", "MAC", "ADDRESSES")


def _networks(table: list[Row]) -> list[str]:
    """Who is on each network that was asked for."""
    lines = []
    for row in table:
        if row.clients:
            lines += [
                "",
                f"On {row.address}:",
                *aligned([ON_NETWORK, *map(_on_network, row.clients)], terminal_width()),
            ]
    return lines


def _networks_as_markdown(table: list[Row]) -> list[str]:
    rows = [row for row in table if row.clients]
    return [
        f"On {row.address}:\n\n{markdown.table(ON_NETWORK, [*map(_on_network, row.clients or ())])}" for row in rows
    ]


def _on_network(client: Client) -> tuple[str, ...]:
    told = ", ".join(f"{each.address} ({_source(each)})" for each in client.addresses)
    return client.machine or "-", client.device or "-", client.mac or "-", told or "-"


def _source(address: Address) -> str:
    name = f"of {address.name}" if address.name else ""
    until = "" if address.until is None else "for ever" if not address.until else f"until {moment(address.until)}"
    return ", ".join(filter(None, (f"{address.source} {name}".strip(), until)))


def _used(users: Sequence[str] | None) -> str:
    return "" if users is None else f"used by {', '.join(users) or 'nobody'}"


def _room(space: Space | None) -> str:
    if not space or not space.capacity:
        return ""
    return f"{about(space.allocation)} of {about(space.capacity)} used, {about(space.available)} free"


def as_json(plan: Plan, table: list[Row]) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "project": plan.project,
        "host": plan.host,
        "resources": [asdict(row) for row in table],
        "notes": list(plan.notes),
    }
