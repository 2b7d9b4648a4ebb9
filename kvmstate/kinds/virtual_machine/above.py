"""A machine's disk that somebody has laid on another file is not laid back where that could lose what was written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from kvmstate.errors import Unseen
from kvmstate.host import Host
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.reference import VolumeRef
from kvmstate.xmlbind import Binding, Section, bindings, document, parse

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
    """Block a change by which a machine releases a layer that somebody has laid over a known volume or file, and that
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


def _disks(xml: str) -> list[Any]:
    """A machine's disks as libvirt has them: files are not told by their volumes."""
    return parse(VirtualMachineSpec, document(xml), fields=_of_disks).disks


def _of_disks(section: type[Section]) -> Iterable[Binding]:
    return (b for b in bindings(section) if section is not VirtualMachineSpec or b.name == "disks")


def _files(xml: str) -> dict[str, str]:
    """The disks that are files, by their names."""
    return {str(disk.name): disk.file for disk in _disks(xml) if disk.file}


def _left(change: Change) -> Iterator[tuple[str, str]]:
    """The disks, and their files, that a machine has no more after a change; when it stops also those that only run."""
    assert change.observed
    goes, stops = change.destroys, change.running and change.disrupts
    names = {
        str(field.path[1])
        for field in ((*change.fields, *change.live) if change.action is Action.UPDATE else ())
        if field.path[0] == "disks" and (field.new is None if len(field.path) == 2 else field.path[2] in _SOURCE)
    }
    if not (goes or stops or names):
        return
    defined = _files(change.observed.xml)
    runs = _files(change.observed.active_xml) if change.observed.active_xml else defined
    for name, path in defined.items():
        if goes or name in names:
            yield name, path
    for name, path in runs.items():
        if (stops or name in names) and path not in defined.values():
            yield name, path


def keep_what_was_written_elsewhere(host: Host, change: Change, entry: Entry | None) -> Change:
    """Block a change that would put a machine back onto an image that it has left by somebody's hand, such as a block
    copy: what it has written since is in the other one only."""
    if change.blocked or change.observed is None or change.desired is None or entry is None or not entry.specs:
        return change
    restarts = change.active_fields if change.restarts else ()
    if not change.fields and not restarts:
        return change
    listed: Any = entry.specs[0].get("disks") or ()
    before = {said["name"]: _image(said.get("volume"), said.get("file")) for said in listed}
    wanted = {disk.name: _image(disk.volume, disk.file) for disk in change.desired.spec.disks}
    for field in (*change.fields, *restarts):
        if field.path[0] != "disks" or field.path[2:3] not in (("volume",), ("file",)) or field.where in entry.pending:
            continue
        name = str(field.path[1])
        xml = change.observed.xml if field in change.fields else change.observed.active_xml or ""
        now = next((disk for disk in _disks(xml) if disk.name == name), None)
        path = now.file if now and now.device != "cdrom" and not now.read_only else None
        image = wanted.get(name)
        if image and image == before.get(name) and path and path != _place(host, image) and _is_there(host, path):
            words = image if isinstance(image, str) else f"volume {image}"
            keeps = f"volume: {ref}" if (ref := host.lookup.volume_at(path)) else f"file: {path}"
            return replace(
                change,
                blocked=f"its disk {name} is {path} by now, by somebody's hand: back on {words} the machine would "
                "be without what it has written since, which would stay behind in that file",
                hint=f"to keep it, write `{keeps}` into the manifest; to go back all the same, give the disk its old "
                "file by hand (`virsh edit`)",
            )
    return change


def _image(volume: object, file: str | None) -> VolumeRef | str | None:
    return VolumeRef.model_validate(volume) if volume else file


def _place(host: Host, image: VolumeRef | str) -> str:
    """The path, also in a pool that is not active."""
    if isinstance(image, str):
        return image
    return posixpath.join(host.lookup.files.folder_of(image.pool) or "", image.name)


def _is_there(host: Host, path: str) -> bool:
    try:
        return host.lookup.files.file(path) is not None
    except Unseen:
        return True
