"""A large share of what a project owns does not leave at once: more often than not its manifests were lost."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from kvmstate.errors import PlanError
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import ResourceId

# Fewer are never too many
FEW = 3


def check_share(
    changes: Iterable[Change],
    desired: Collection[ResourceId],
    inventory: Inventory,
    share: float,
    meant: int | None,
    partial: bool,
) -> None:
    """Check how much would be deleted. Raises PlanError when more than this share of what is owned would be deleted,
    unless just so many are `meant`. What a `partial` plan has not looked at counts as well: the rest of it may have
    been deleted before, or be deleted next."""
    changes = list(changes)
    leaving = {c.id for c in changes if c.action is Action.DELETE and not c.blocked}
    if not leaving or not desired:
        # none, or all of them, which was asked about already
        return
    if partial:
        seen = {c.id for c in changes}
        leaving |= {
            id_ for id_ in inventory.entries if id_ not in seen and id_ not in desired and _goes(id_, inventory)
        }
    owned = len(inventory.entries)
    if len(leaving) in (*range(FEW), meant) or len(leaving) <= owned * share + 1e-9:
        return
    needed = math.ceil(100 * len(leaving) / owned)
    raise PlanError(
        f"{len(leaving)} of the {owned} resources that project {inventory.project} owns would be deleted, more than "
        f"{math.floor(100 * share)}% at once",
        f"if that is meant: `kvmstate apply --prune --max-delete-share {needed}%`, or maxDeleteShare in kvmstate.yaml",
    )


def _goes(id_: ResourceId, inventory: Inventory) -> bool:
    entry = inventory.entries[id_]
    kept = entry.suspended or entry.lifecycle.prevent_destroy
    return not kept and BY_WORD[id_.kind].deletion(entry.lifecycle.deletion) == "delete"
