"""What a pool is on: made with it where its manifest says so, and deleted with it where its lifecycle does.

Nothing is formatted but what was looked at right before: by kvmstate past libvirt, and by libvirt itself, which refuses
a device on which it finds something unless `overwrite` was said. That counts once: a pool that was built, and that
somebody undefined, is not built again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, pools
from kvmstate.host.objects import Pool
from kvmstate.kind import Context
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.storage_pool.base import PoolSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.pool_types import pool_type
from kvmstate.xmlbind import document

MKDIR, IF_EMPTY, OVERWRITE, DELETE = "mkdir", "ifEmpty", "overwrite", "delete"
# a file system that nobody has written to has this
_OWN = {"lost+found"}


def planned(host: Host, change: Change, entry: Entry | None) -> Change:
    """The change, with what is built for it, or deleted with it; blocked where that must not be."""
    if change.blocked or change.unknown or change.suspended:
        return change
    if change.action is Action.DELETE:
        return _with_storage(change, entry)
    spec: PoolSpec | None = change.spec
    fresh = change.action in (Action.CREATE, Action.REPLACE)
    begun = entry is not None and entry.incomplete and change.action in (Action.UPDATE, Action.NOOP)
    unfinished = begun and not change.running
    if spec is None or not (fresh or unfinished):
        return change
    built = entry is not None and entry.built
    if not spec.formats:
        makes = spec.keeps().makes_folder and spec.build != "never" and change.lifecycle.storage == "delete"
        return replace(change, builds=MKDIR) if makes and fresh and not built else change
    if change.action is Action.CREATE and built:
        return change.saying("its storage was built before, and is taken as it is")
    # what is replaced, or was cut off while it was formatted, is looked at as any other
    how = OVERWRITE if spec.build == OVERWRITE and not built and change.action is not Action.REPLACE else IF_EMPTY
    if how == OVERWRITE and change.lifecycle.replace != "allow":
        hint = "lifecycle.replace: allow permits it; build: ifEmpty formats what is empty"
        return replace(change, blocked="build: overwrite loses what is there", hint=hint)
    devices = ", ".join(spec.devices())
    try:
        taken = _look(host, change.id.name, spec, how)
    except ConnectionFailed:
        raise
    except HostError as error:
        return replace(change, blocked=error.message, hint=error.hint)
    if taken:
        return change.saying(f"{taken} is not empty: it is taken as it is, and not formatted")
    lost = "is formatted, and all that is on it is lost" if how == OVERWRITE else "is empty, and will be formatted"
    # a pool that is not started agrees with its manifest before it is built, too
    action = Action.UPDATE if change.action is Action.NOOP else change.action
    return replace(change.saying(f"{devices} {lost}"), builds=how, action=action)


def _look(host: Host, name: str, spec: PoolSpec, how: str) -> str:
    """The device that is not empty, where that counts. Raises HostError for one that must not be formatted, or of which
    nobody can tell."""
    for device in spec.devices():
        seen = host.sight.device(device)
        if seen is None:
            raise HostError(
                f"whether {device} may be formatted cannot be told: it is not a block device of the host, or nothing "
                "but libvirt leads there",
                "correct the device; run kvmstate on the host, or reach it by qemu+ssh://",
            )
        if how == IF_EMPTY and not seen.blank:
            return device
        if seen.busy:
            raise HostError(f"{device} is in use on the host: something of it is mounted or active", "is it another?")
        if users := host.uses.of_device(device, name):
            raise HostError(f"{device} is in use by {min(users)}", "is it another device that is meant?")
    return ""


def built(change: Change, at: Context) -> Iterator[Step]:
    """The step that formats what the pool is on."""
    spec, name, host = change.spec, change.id.name, at.host
    if change.builds not in (IF_EMPTY, OVERWRITE):
        return

    def run() -> None:
        if taken := _look(host, name, spec, change.builds):
            raise HostError(f"{taken} is not empty any more", "plan again")
        pool = pools.find(host.connection, name)
        defined = {device.get("path", "") for device in document(pools.xml(pool)).iterfind("source/device")}
        if defined != {*spec.devices()} or not defined:
            raise HostError(
                f"{change.id} is defined on {', '.join(sorted(defined)) or 'no device'}, and not on what was looked at",
                "say its devices by the fields of source alone",
            )
        try:
            pools.build(pool, at.gate.building(change), change.builds == OVERWRITE)
        except ConnectionFailed:
            raise
        except HostError:
            at.gate.unbuilt(change)
            raise

    yield simple(f"format {', '.join(spec.devices())}", run)


def noted(change: Change, at: Context, pool: Pool) -> None:
    """Record that the folder, which is about to be made, is kvmstate's: where it may be deleted some day."""
    if change.builds == MKDIR and pools.lacks_folder(pool):
        at.gate.building(change).check(pool)


def _with_storage(change: Change, entry: Entry | None) -> Change:
    if change.lifecycle.storage != "delete" or change.observed is None:
        return change
    type_ = change.observed.config.type
    if entry is None or not entry.built:
        return change.saying("its storage stays: kvmstate has not built it")
    if not pool_type(type_).deletes:
        return change.saying(f"its storage stays: libvirt does not delete that of pools of type {type_}")
    return replace(change.saying("its storage is deleted, if it is empty"), builds=DELETE)


def unbuilt(change: Change, at: Context) -> Iterator[Step]:
    """The step that deletes what the pool is on, once it is seen to be empty."""
    if change.builds != DELETE:
        return
    host, permit = at.host, at.gate.unbuilding(change)

    def run() -> None:
        pool = pools.find(host.connection, change.id.name)
        try:
            pools.start(pool)
        except ConnectionFailed:
            raise
        except HostError:
            # deleted by a run that was cut off then
            if _is_gone(host, pool):
                return
            raise
        pools.refresh(pool)
        if left := sorted({volume.name for volume in pools.listed(pool)} - _OWN):
            raise HostError(
                f"{change.id} is not empty: it has {left[0]}, and its storage stays",
                "delete what is in it, or let its manifest say lifecycle.storage: keep, and apply that first",
            )
        pools.stop(pool)
        pools.delete(pool, permit)

    yield simple("delete its storage", run)


def _is_gone(host: Host, pool: Pool) -> bool:
    """Whether it is certain that what a pool is on is not there any more."""
    node = document(pools.xml(pool))
    if pool_type(node.get("type", "")).makes_folder:
        return pools.lacks_folder(pool)
    groups = {source.findtext("name") for source in pools.sources(host.connection, node.get("type", ""))}
    return node.findtext("source/name") not in groups
