"""Seeds of machines: what is there under a seed's name may be somebody's data, and a new machine reads the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvmstate.host import Host, pools, volumes
from kvmstate.kind import Scene
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, ResourceId

STAYS = "the seed stays as it is: it is read at the first boot alone"


def _is_of_machine(change: Change) -> bool:
    """Whether it is a seed that a machine declares, and not a document of its own with a lifecycle that somebody has
    written."""
    content = change.desired.spec.content if change.desired and change.desired.origin.by else None
    return bool(content and content.seed)


def guarded(host: Host, change: Change, entry: Entry | None) -> Change:
    """Blocked, where what is there is not known to be a seed: that of a machine may be replaced at any time, and goes
    with it, which data must not. Where nothing is on record, one that says what the manifest says is the seed."""
    if change.observed is None or not _is_of_machine(change) or any(map(_is_seed, entry.specs if entry else ())):
        return change
    if entry is None and _is_there(host, change, change.observed):
        return change
    why = "what is there is not known to be a seed, and may be data"
    hint = "give the seed another name: `name` in cloudInit"
    return replace(change, action=Action.REPLACE, blocked=why, hint=hint)


def _is_there(host: Host, change: Change, seen: Observed) -> bool:
    from kvmstate.kinds.volume.seed import iso  # few records are lost

    assert change.desired
    image, (pool, _, name) = iso(change.desired.spec.content.seed), change.id.name.partition("/")
    if seen.config.capacity != len(image):
        return False
    pieces = volumes.download(host.connection, volumes.find(pools.find(host.connection, pool), name))
    return b"".join(bytes(piece) for piece in pieces) == image


def _is_seed(spec: Mapping[str, Any]) -> bool:
    return bool((spec.get("content") or {}).get("seed"))


def judge(at: Scene) -> None:
    """One that differs is made again for a machine that is made, and stays where a machine has it."""
    for id_, change in list(at.changes.items()):
        alone = change.fields and all(f.path[:2] == ("content", "seed") for f in change.fields)
        if change.action is not Action.UPDATE or change.blocked or not alone or not _is_of_machine(change):
            continue
        assert change.desired
        machine = at.changes.get(ResourceId.parse(change.desired.origin.by))
        if machine and machine.action is Action.CREATE:
            at.changes[id_] = replace(change, action=Action.REPLACE, reason="its machine is made")
        else:
            at.changes[id_] = replace(change, reason=STAYS)
