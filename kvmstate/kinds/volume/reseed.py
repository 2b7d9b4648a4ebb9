"""Seeds of machines: what is there under a seed's name may be somebody's data, and a new machine reads the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvmstate.host import Host, pools, volumes
from kvmstate.kind import Scene
from kvmstate.kinds.volume.spec import VolumeSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, ResourceId
from kvmstate.xmlbind import is_sealed

SEED = ("content", "seed")
MADE = "its machine is made"
STAYS = "the seed stays as it is: it is read at the first boot alone"


def _is_of_machine(change: Change) -> bool:
    """Whether it is a seed that a machine declares, and not a document of its own with a lifecycle that somebody has
    written."""
    spec = change.desired.spec if change.desired and change.desired.origin.by else None
    return isinstance(spec, VolumeSpec) and bool(spec.content and spec.content.seed)


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
    """One that differs is made again for a machine that is made, and stays where a machine has it. What an edit says
    that was ignored is on record, and not in the seed: where that counts, it is read."""
    for id_, change in list(at.changes.items()):
        if change.blocked or not change.observed or not _is_of_machine(change):
            continue
        assert change.desired
        if is_sealed(change.desired.written):
            # it is as it was applied, for a template: hashes are neither compared with an image nor written to one
            continue
        by = change.desired.origin.by
        machine = at.changes.get(ResourceId.parse(by))
        made = machine is not None and machine.action is Action.CREATE
        alone = change.fields and all(f.path[:2] == SEED for f in change.fields)
        if any((f.path, f.old, f.new) == ((*SEED, "onChange"), "ignore", "replace") for f in change.fields):
            _judge_first(at, change, by)
        elif change.action is Action.UPDATE and alone:
            at.changes[id_] = (
                replace(change, action=Action.REPLACE, reason=MADE) if made else replace(change, reason=STAYS)
            )
        elif made and change.action is Action.NOOP and not _is_there(at.host, change, change.observed):
            spec = change.spec or change.desired.spec
            at.changes[id_] = replace(change, action=Action.REPLACE, reason=MADE, spec=spec)


def _judge_first(at: Scene, change: Change, by: str) -> None:
    """Another seed means another machine from now on: this one may be another one than the machine has read, or that
    which it has read."""
    assert change.observed
    rest = tuple(f for f in change.fields if f.path[:2] != SEED or f.effect is not Effect.REPLACE)
    if any(f.effect is Effect.REPLACE for f in rest):
        return
    if _is_there(at.host, change, change.observed):
        at.changes[change.id] = replace(change, action=Action.UPDATE, fields=rest)
        return
    at.changes[change.id] = replace(change, action=Action.REPLACE, reason="what is there is another seed")
    for id_, disk in list(at.changes.items()):
        first = [f for f in disk.fields if f.path == ("madeFor",) and f.old is None]
        if first and not disk.blocked and disk.desired and disk.desired.origin.by == by:
            fields = tuple(replace(f, effect=Effect.REPLACE) if f in first else f for f in disk.fields)
            at.changes[id_] = _allowed(replace(disk, action=Action.REPLACE, fields=fields))


def _allowed(change: Change) -> Change:
    if change.lifecycle.prevent_destroy:
        why, hint = "preventDestroy forbids making it again for another seed", "take preventDestroy out first"
    elif change.lifecycle.replace != "allow":
        why = "its machine was made with another seed, and it would be made again"
        hint = "lifecycle.replace: allow permits it (what it holds is lost)"
    else:
        return change
    return replace(change, blocked=why, hint=hint)
