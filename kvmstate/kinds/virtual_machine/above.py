"""A machine's disk that somebody has laid on another file is not laid back where that could lose what was written."""

from __future__ import annotations

from dataclasses import replace

from kvmstate.host import Host
from kvmstate.model.change import Change
from kvmstate.model.inventory import Entry


def keep_what_lies_above(host: Host, change: Change, entry: Entry | None) -> Change:
    """Block a change of a disk's volume or file that no edit of the manifest asks for, while nobody can tell what the
    file lies on that the disk has by now: it may be an overlay of a backup program over the very volume."""
    unseen = host.lookup.unseen
    if change.blocked or not unseen or change.observed is None or entry is None:
        return change
    now = {disk.name: disk.file for disk in change.observed.config.disks}
    for field in change.fields:
        if field.path[0] == "disks" and field.path[2:3] in (("volume",), ("file",)):
            path = now.get(str(field.path[1])) or ""
            if path in unseen:
                return replace(
                    change,
                    blocked=f"{field.where} has {path} by now, and whether that lies on the declared one cannot be "
                    f"told: {unseen[path]}",
                    hint="make its folder a storage pool, or end the backup that laid it there",
                )
    return change
