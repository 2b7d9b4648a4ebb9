"""What cannot be recorded cannot be owned: told in the plan, where it stops only what needs it."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

from kvmstate.apply.keep import VALUE_MAX
from kvmstate.model.change import Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.plan import Plan

# Bytes of an entry, and of its shard, that are not its specs
_AROUND = 4096


def without_the_too_large(plan: Plan, inventory: Inventory) -> Plan:
    """The plan, in which changes are blocked whose record would be larger than libvirt takes."""
    if not any(change.desired for change in plan.todo):
        return plan
    todo = {change.id for change in plan.todo}
    return replace(plan, changes=tuple(judged(c, inventory) if c.id in todo else c for c in plan.changes))


def judged(change: Change, inventory: Inventory) -> Change:
    """The change, blocked when it cannot be recorded."""
    if change.desired is None:
        return change
    # while the change is under way, the last one is recorded beside it
    entry = inventory.get(change.moved_from or change.id)
    text = json.dumps([*(entry.specs[-1:] if entry else ()), change.desired.written])
    if len(text) <= VALUE_MAX - _AROUND or (size := len(zlib.compress(text.encode()))) <= VALUE_MAX - _AROUND:
        return change
    return replace(
        change,
        blocked=f"its manifest is too large to be recorded on the host: {size:,} bytes, compressed, of at most "
        f"{VALUE_MAX - _AROUND:,}",
        hint="a description, title or remainder of that size belongs elsewhere",
    )
