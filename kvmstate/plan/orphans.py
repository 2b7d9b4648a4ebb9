"""What the project released and the host still has: the project owns it again when it declares it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kvmstate.host import Host
from kvmstate.host.identity import same
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.resource import Observed, Resource, ResourceId


def declared(inventory: Inventory, wanted: Mapping[ResourceId, Resource]) -> dict[ResourceId, Entry]:
    """The orphans that these manifests want, as if they were owned. One whose upload was cut off is wanted where it is
    to be filled again."""
    return {
        id_: replace(entry, orphaned=False)
        for id_, entry in inventory.orphans.items()
        if id_ in wanted and (not entry.incomplete or wanted[id_].spec.filling())
    }


def found(wanted: Mapping[ResourceId, Entry], observed: Mapping[ResourceId, Observed]) -> dict[ResourceId, Entry]:
    """Those that are on the host, and not another object of their name."""
    return {id_: entry for id_, entry in wanted.items() if id_ in observed and same(entry.uuid, observed[id_].uuid)}


def uuid(host: Host, inventory: Inventory, id_: ResourceId) -> str:
    """That of what there was, if nobody else has it by now, where the host finds by it the state that it has kept."""
    entry = inventory.orphans.get(id_)
    if entry is None or BY_WORD[id_.kind].ops.taken(host, entry.uuid):
        return ""
    return entry.uuid


def returned(change: Change) -> Change:
    """The change of what is owned again by it. What was left shall not be deleted in the same breath."""
    if change.suspended or change.blocked:
        return change
    if change.action is Action.REPLACE and not change.interrupted:
        names = ", ".join(f.where for f in change.fields if f.effect is Effect.REPLACE)
        why = f"it was left on the host, and {names} would replace it"
        return replace(change, blocked=why, hint="apply it as it was before, so that it is owned again; then change it")
    action = Action.ADOPT if change.action is Action.NOOP else change.action
    reason = change.reason or "it was left on the host, and is this project's again"
    return replace(change, action=action, reason=reason, returns=True)
