"""How much of its pool a volume takes, as the plan has it."""

from __future__ import annotations

import os
import re

from kvmstate.errors import HostError
from kvmstate.kind import Room
from kvmstate.kinds.volume import header, unpack
from kvmstate.kinds.volume.spec import VolumeSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.pool_types import PoolType

_BYTES = re.compile(r"<(capacity|allocation) unit='bytes'>(\d+)<")


# Where a copy of a file takes the room of it: files share no blocks
_UNSHARED = ("ext2", "ext3", "ext4", "tmpfs")
# What tells an image
_HEAD = 1024


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
        at_once = max(capacity if whole else min(int(spec.allocation or 0), capacity), _data(spec))
    else:
        at_once = 0 if place.sparse or change.action is not Action.UPDATE else max(0, capacity - before)
    return Room(at_once, max(capacity, before), held)


def _data(spec: VolumeSpec) -> int:
    """How much is uploaded of a file that is there, and is not unpacked, converted, built or encrypted before."""
    content = spec.content
    if not content or not content.file or spec.build or spec.encryption:
        return 0
    try:
        with open(content.file, "rb") as file:
            head, seen = file.read(_HEAD), os.fstat(file.fileno())
        if unpack.packed(head) or not header.look(head, seen.st_size, content.file).is_one(spec.format):
            return 0
        device = f" {os.major(seen.st_dev)}:{os.minor(seen.st_dev)} "
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            types = {line.partition(" - ")[2].split()[0] for line in mounts if device in line}
    except (OSError, HostError):
        # what is wrong with it is told where it is looked at
        return 0
    return min(seen.st_size, seen.st_blocks * 512) if types and types <= {*_UNSHARED} else 0
