"""How much of its pool a volume takes, as the plan has it."""

from __future__ import annotations

import re

from kvmstate.kind import Room
from kvmstate.model.change import Action, Change
from kvmstate.model.pool_types import PoolType

_BYTES = re.compile(r"<(capacity|allocation) unit='bytes'>(\d+)<")


def room(change: Change, place: PoolType) -> Room:
    """What is not known before it is there, such as the size of a content, counts for nothing."""
    seen = {name: int(size) for name, size in _BYTES.findall(change.observed.xml)} if change.observed else {}
    before, held = seen.get("capacity", 0), seen.get("allocation", 0)
    if change.action is Action.DELETE:
        return Room(0, 0, held)
    spec = change.spec
    capacity = int((spec.capacity if spec is not None else None) or before)
    if change.action in (Action.CREATE, Action.REPLACE):
        whole = not place.sparse or spec.preallocation == "falloc"
        at_once = capacity if whole else min(int(spec.allocation or 0), capacity)
    else:
        at_once = 0 if place.sparse or change.action is not Action.UPDATE else max(0, capacity - before)
    return Room(at_once, max(capacity, before), held)
