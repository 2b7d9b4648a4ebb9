"""A machine's disk that somebody has laid on another file is not laid back where that could lose what was written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace

from kvmstate.host import Host
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.xmlbind import document, parse

_SOURCE = ("volume", "file")


def keep_what_lies_above(host: Host, change: Change, entry: Entry | None) -> Change:
    """Block a change of a disk's volume or file that no edit of the manifest asks for, while nobody can tell what the
    file lies on that the disk has by now: it may be an overlay of a backup program over the very volume."""
    unseen = host.lookup.unseen
    if change.blocked or not unseen or change.observed is None or entry is None:
        return change
    now = {disk.name: disk.file for disk in change.observed.config.disks}
    for field in change.fields:
        if field.path[0] == "disks" and field.path[2:3] and field.path[2] in _SOURCE:
            path = now.get(str(field.path[1])) or ""
            if path in unseen:
                return replace(
                    change,
                    blocked=f"{field.where} has {path} by now, and whether that lies on the declared one cannot be "
                    f"told: {unseen[path]}",
                    hint="make its folder a storage pool, or end the backup that laid it there",
                )
    return change


def keep_layers_elsewhere(host: Host, change: Change) -> Change:
    """Block a change by which a machine lets go of a layer that somebody has laid over a known volume or file, and that
    is in no pool: nothing but the machine leads to it, and what it lies on would be deleted next."""
    if change.blocked or change.observed is None:
        return change
    for name, path in _left(change):
        if posixpath.dirname(path) in host.lookup.files.folders or path in host.known or path.startswith("/dev/"):
            continue
        below, _ = host.lookup.original(path)
        if unseen := host.lookup.unseen.get(path):
            lies = f"what it lies on cannot be told: {unseen}"
        elif below != path:
            known = host.lookup.volume_at(below)
            lies = f"it lies on {f'volume {known}' if known else below}"
        else:
            continue
        return replace(
            change,
            blocked=f"its disk {name} is {path} by now, in no storage pool, and {lies}; nothing else leads to what was "
            "written there",
            hint="end the backup that has laid it there (`virsh blockcommit --active --pivot`), or make its folder a "
            "storage pool",
        )
    return change


def _left(change: Change) -> Iterator[tuple[str, str]]:
    """The disks, and their files, that a machine has no more after a change."""
    assert change.observed
    goes = change.action in (Action.DELETE, Action.REPLACE)
    names = {
        str(field.path[1])
        for field in (change.fields if change.action is Action.UPDATE else ())
        if field.path[0] == "disks" and (field.new is None if len(field.path) == 2 else field.path[2] in _SOURCE)
    }
    for disk in parse(VirtualMachineSpec, document(change.observed.xml)).disks if goes or names else ():
        if disk.file and (goes or disk.name in names):
            yield str(disk.name), disk.file
