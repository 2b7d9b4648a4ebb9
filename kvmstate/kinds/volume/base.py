"""What others build upon is not replaced: who they are, and what can be done instead."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, pools, volumes
from kvmstate.host.named import User
from kvmstate.kind import Fault
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.pool_types import PoolType, Volumes
from kvmstate.model.resource import Resource
from kvmstate.xmlbind import document

# Of each sort
_SHOWN = 8
SAFE = (
    "declare the new one as another volume beside it, and give a machine that is to have it a new layer over that: the "
    "old layer stays. What shall stay as it is can be made to stand alone (`virsh blockpull MACHINE TARGET --wait`, "
    "while the machine runs)"
)


def in_use(users: Sequence[User]) -> tuple[str, str] | None:
    """Why it is not taken away while these are there, and what to do; None where nothing lies on it."""
    layers = [user for user in users if user.id.kind in ("volume", "file")]
    if not layers:
        return None
    machines = [user for user in users if user not in layers]
    said = f"{_named(layers)} {'lie' if len(layers) > 1 else 'lies'} on it"
    return f"in use: {said}{f', with {_named(machines)}' if machines else ''}", SAFE


def unlayered(place: PoolType) -> str:
    """Why nothing can lie on a volume in a pool of this type; empty where it can."""
    if place.volumes is not Volumes.NETWORK:
        return ""
    return f"a layer lies on a file or a block device of the host, and a pool of type {place.name} has neither"


def larger(host: Host, change: Change) -> Fault | None:
    """Why a layer of the storage's own cannot have its capacity: it begins with that of its base."""
    ref, wanted = change.spec.backing, change.spec.capacity
    with suppress(HostError):
        text = volumes.xml(volumes.find(pools.find(host.connection, ref.pool), ref.name))
        least = int(document(text).findtext("capacity") or 0)
        if wanted and wanted < least:
            why = f"capacity is less than that of volume {ref} ({least} bytes)"
            return Fault(("capacity",), why, "raise capacity or leave it out")
    return None


def refused(host: Host, change: Change) -> Fault | None:
    """Why a replacement, which nothing allows yet, is none to be allowed."""
    if change.action is not Action.REPLACE or not change.blocked or change.observed is None:
        return None
    try:
        path = document(change.observed.xml).findtext("target/path") or ""
        found = in_use(sorted(host.uses.of_volume(change.id, path)))
    except ConnectionFailed:
        raise
    except HostError:
        # asked again where it is allowed
        return None
    return Fault((), f"{change.blocked}; {found[0]}", found[1]) if found else None


def missed(host: Host, change: Change, entry: Entry | None) -> Fault | None:
    """Why one that is gone is not made again: layers over it hold what differs from what it held."""
    if change.action is not Action.CREATE or change.blocked or change.desired is None:
        return None
    pool, _, name = change.id.name.partition("/")
    folder = host.lookup.files.folder_of(pool)
    if folder is None or _the_same(change.desired, entry):
        return None
    layers = sorted({layer.user for layer in host.uses.layers_over(posixpath.join(folder, name))})
    if not layers:
        return None
    said = f"{_named(layers)} {'lie' if len(layers) > 1 else 'lies'} on it"
    return Fault(
        (),
        f"{said}, and would be damaged by another content than it had",
        "bring back what it was, and `kvmstate adopt` it; or delete what lies on it first",
    )


def _the_same(desired: Resource, entry: Entry | None) -> bool:
    """Whether a checksum proves that it will hold what it held."""
    keys = ("content", "build", "format", "capacity", "backing")
    said = {key: desired.written.get(key) for key in keys}
    content: Any = said["content"]
    if not isinstance(content, dict) or not content.get("checksum") or said["build"]:
        return False
    return entry is None or not entry.specs or said == {key: entry.specs[-1].get(key) for key in keys}


def _named(users: Sequence[User]) -> str:
    names = [str(user) for user in users]
    if len(names) > _SHOWN:
        names = [*names[:_SHOWN], f"{len(names) - _SHOWN} more"]
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
