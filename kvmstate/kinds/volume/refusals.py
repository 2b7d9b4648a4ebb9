"""What libvirt or QEMU would refuse to do to a volume: in a pool of its type, or as it is used now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host
from kvmstate.kind import Fault
from kvmstate.kinds.volume import base, encryption, reseed, shrink
from kvmstate.kinds.volume.copy import Original
from kvmstate.kinds.volume.growth import held
from kvmstate.model.change import Action, Change
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry
from kvmstate.model.pool_types import Can, PoolType, Volumes
from kvmstate.xmlbind import document

EXTENDED_L2 = (8, 0, 0)


def checked(host: Host, change: Change, entry: Entry | None) -> Change:
    """Said before anything is done."""
    if (guarded := reseed.guarded(host, change, entry)) is not change:
        return guarded
    why = None
    if change.action in (Action.CREATE, Action.REPLACE, Action.DELETE):
        if place := host.lookup.files.type_of(change.id.name.partition("/")[0]):
            why = next(refused(change, place), None) or too_new(host, change)
        if not (why or change.blocked or change.action is Action.DELETE):
            why = _base(host, change) or _content(host, change) or base.missed(host, change, entry)
    elif not change.blocked and any(field.path == ("lifecycle", "wipe") for field in change.fields):
        place = host.lookup.files.type_of(change.id.name.partition("/")[0])
        if place and change.lifecycle.wipe and (said := unwiped(change.lifecycle.wipe, place)):
            why = Fault((), said, "take lifecycle.wipe out")
    why = why or _resized(host, change) or _smaller(change) or base.refused(host, change)
    return replace(change, blocked=why.message, hint=why.hint) if why else _told(change)


def _resized(host: Host, change: Change) -> Fault | None:
    """Why a volume neither grows nor shrinks now."""
    resized = change.action is Action.UPDATE and any(field.path == ("capacity",) for field in change.fields)
    if change.blocked or change.observed is None or not resized:
        return None
    if change.shrinks:
        return shrink.refused(host, change)
    text = change.observed.xml
    return held(host, change.id, document(text).findtext("target/path") or "", text, change.spec.capacity)


def _base(host: Host, change: Change) -> Fault | None:
    """Why it cannot lie on its base."""
    if not change.spec.backing:
        return None
    below = host.lookup.files.type_of(change.spec.backing.pool)
    if below is None:
        return None
    if below.own_layers and change.spec.backing.pool == change.spec.pool:
        return base.larger(host, change)
    if why := base.unlayered(below):
        return Fault(("backing",), why, "copy it instead: `content: {volume: POOL/NAME}`")
    return None


def _smaller(change: Change) -> Fault | None:
    """How something may be allowed that is not."""
    smaller = any(f.path == ("capacity",) and f.effect is Effect.REFUSED for f in change.fields)
    if change.blocked and change.action is Action.UPDATE and smaller:
        hint = "" if change.spec.fixed else "; or say allowShrink: true, when what lies beyond may be lost"
        return Fault(("capacity",), change.blocked, f"{change.hint}{hint}")
    return None


def _told(change: Change) -> Change:
    if not change.shrinks or change.reason:
        return change
    return replace(change, reason=f"what lies beyond {change.spec.capacity} is lost")


def _content(host: Host, change: Change) -> Fault | None:
    """Why a file is not uploaded, or a volume not copied. What is at an address is not looked at before it is fetched,
    nor a volume before it is there."""
    content, spec = change.spec.content, change.spec
    if spec.build:
        from kvmstate.kinds.volume.guestfs import way

        try:
            way(host, spec)
        except HostError as error:
            return Fault(("build",), error.message, error.hint)
    try:
        if content and content.volume:
            with suppress(NotFound):
                Original(host, content.volume, spec.capacity, content.live).look()
        elif content and content.file:
            from kvmstate.kinds.volume.content import Source

            Source(content).look(spec.format, spec.capacity, spec.encryption is not None)
    except HostError as error:
        return Fault(("content",), error.message, error.hint)
    return None


def too_new(host: Host, change: Change) -> Fault | None:
    """What this host's libvirt does not know."""
    if change.action is Action.DELETE or not change.spec.extended_l2 or host.library_version >= EXTENDED_L2:
        return None
    return Fault(("extendedL2",), "extendedL2 needs libvirt 8.0 or newer on the host", "leave it out")


def unwiped(algorithm: str, place: PoolType) -> str:
    """Why libvirt does not wipe so in a pool of this type; empty where it does."""
    if Can.WIPE not in place.can:
        return f"libvirt wipes no volume in a pool of type {place.name}"
    if algorithm == "trim" and Can.TRIM not in place.can:
        return f"libvirt trims no volume in a pool of type {place.name}"
    if place.volumes is Volumes.NETWORK and algorithm not in ("zero", "trim"):
        known = "zero and trim" if Can.TRIM in place.can else "zero"
        return f"in a pool of type {place.name} libvirt wipes with {known} only"
    return ""


def refused(change: Change, place: PoolType) -> Iterator[Fault]:
    """Why a pool of this type keeps a change from being made."""
    where = f"a pool of type {place.name}"
    if change.blocked:
        if any(f.path == ("capacity",) and f.effect is Effect.REPLACE for f in change.fields):
            hint = "grow it with the storage's own tools, and refresh the pool; or lifecycle.replace: allow"
            yield Fault(("capacity",), f"libvirt cannot grow a volume in {where}", f"{hint} (what it holds is lost)")
        return
    if change.lifecycle.wipe and (why := unwiped(change.lifecycle.wipe, place)):
        yield Fault((), why, "take lifecycle.wipe out" if change.desired else "wipe it with the storage's own tools")
    if change.action is not Action.CREATE and Can.DELETE not in place.can:
        yield Fault((), f"libvirt deletes no volume in {where}", "lifecycle.deletion: orphan releases it; it stays")
    if change.action is not Action.DELETE:
        if unnamed := encryption.unnamed(change.spec):
            yield unnamed
        if Can.CREATE not in place.can:
            yield Fault((), f"libvirt makes no volume in {where}", "make it where the storage is, and refresh the pool")
        yield from change.spec.misfits(place)
