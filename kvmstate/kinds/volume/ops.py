"""Volumes on a host: observe, create with their content, grow, delete."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lxml import etree

from kvmstate.errors import HostError, NotFound, Unseen
from kvmstate.host import Host, direct, domains, pools, volumes
from kvmstate.host.connection import Glimpse
from kvmstate.host.identity import UNKNOWN, identity
from kvmstate.host.objects import Handle, Pool, Volume
from kvmstate.host.permit import Permit
from kvmstate.host.volumes import QCOW2_V3
from kvmstate.kind import Context, Ops
from kvmstate.kind.compose import written
from kvmstate.kind.steps import Progress, Step, simple
from kvmstate.kinds.volume import base, move
from kvmstate.kinds.volume.copy import Original
from kvmstate.kinds.volume.growth import grow
from kvmstate.kinds.volume.refusals import checked, refused
from kvmstate.kinds.volume.reseed import judge
from kvmstate.kinds.volume.room import room
from kvmstate.kinds.volume.shrink import shrink
from kvmstate.kinds.volume.spec import Content, VolumeSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.effect import Effect
from kvmstate.model.pool_types import PoolType, Volumes
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.snapshots.chain import overlays
from kvmstate.xmlbind import document, owning, parse, patch, to_text
from kvmstate.xmlbind.path import parse_path

if TYPE_CHECKING:
    from kvmstate.host.named import User
    from kvmstate.host.own_ids import Own
    from kvmstate.kinds.volume.content import Source

# libvirt makes an image with tables of at most so many bytes
_TABLES = 1 << 20
BASE = "<volume><name/><capacity unit='bytes'>0</capacity></volume>"
# How an image that is there was made is nothing that its manifest need say
AS_MADE = ("compat", "cluster_size", "lazy_refcounts", "extended_l2", "nocow", "permissions")
# What a guest changes by reading and writing, and what libvirt tells of an image only after it has looked at its pool.
# libvirt gives each element a line; to look for these first is four times as quick
VOLATILE = re.compile(
    r"\n *<(?:(timestamps|allocation|physical|clusterSize|compat|features)\b[^>]*(?:/>|(?<!/)>.*?</\1>)|"
    r"secret type='passphrase'[^>]*/>)",
    re.DOTALL,
)


def names(host: Host) -> set[str]:
    """Those of active pools, without the files of snapshots, which come and go with these, and without what a file
    system keeps in its root for itself."""
    every, passing = pools.all_pools(host.connection), overlays(host)
    listed = ((pool, volume) for pool in every for volume in pools.volumes(pool))
    return {f"{pool.name}/{volume.name}" for pool, volume in listed if _counts(volume, passing)}


def _counts(volume: Volume, passing: Set[str]) -> bool:
    return volume.name != "lost+found" and (not passing or volume.path not in passing)


def observe(host: Host, names: Set[str]) -> dict[str, Observed | Unseen]:
    """What is in a pool that is not active, or stops meanwhile, is not known."""
    found: dict[str, Observed | Unseen] = {}
    by_pool: dict[str, set[str]] = {}
    for name in names:
        by_pool.setdefault(name.partition("/")[0], set()).add(name.partition("/")[2])
    for pool_name, wanted in sorted(by_pool.items()):
        try:
            pool = pools.find(host.connection, pool_name)
            # libvirt tells what lies below a volume as of its last look at the pool
            first = host.asks_uses and len(wanted) > pools.FEW and pool_name not in host.glimpses
            glimpse = Glimpse() if first and pools.refreshed(pool) else None
            listed = pools.listed(pool, wanted)
            host.lookup.remember(pool_name, listed)
            kind = host.lookup.files.type_of(pool_name)
            own = _own(host, kind, pool, wanted) if host.sight.near or host.closely else {}
            looked = host.each(lambda v: _look(host, pool_name, kind, v, own.get(v.name)), listed)  # noqa: B023
            found |= {seen.id.name: seen for seen in looked}
            if glimpse:
                glimpse.end({seen.id.name: (seen.xml, None) for seen in looked})
                host.glimpses[pool_name] = glimpse
        except NotFound:
            continue
        except Unseen as unseen:
            found |= dict.fromkeys((f"{pool_name}/{name}" for name in wanted), unseen)
    return found


def _look(host: Host, pool: str, kind: PoolType | None, volume: Volume, own: Own | None) -> Observed:
    """Raises NotFound when the volume has gone."""

    def read(seen: Observed) -> tuple[VolumeSpec, None]:
        spec = parse(VolumeSpec, document(seen.xml), host.lookup).model_copy(update=seen.calls)
        spec = spec.kept_in(kind) if kind else spec
        if "format" not in spec.model_fields_set:
            # of logical volumes and the like libvirt tells none
            spec = spec.model_copy(update={"format": "raw"})
            spec.model_fields_set.discard("format")
        return spec, None

    id_, text = ResourceId("volume", f"{pool}/{volume.name}"), volumes.xml(volume)
    told = UNKNOWN
    if host.sight.near or host.closely:
        told = identity(host.sight, kind, volume.key, text, lambda: volumes.xml(volume), own.id if own else None)
    return Observed(id_, told, text, None, {"pool": pool}, read, VOLATILE)


def complete(resource: Resource, observed: Observed | None, project: str) -> VolumeSpec:
    spec: VolumeSpec = resource.spec
    if observed is None:
        return spec
    seen: VolumeSpec = observed.config
    return spec.told(seen).kept_in(seen.kept, seen.capacity)


def portable(observed: Observed, host: Host) -> tuple[VolumeSpec, etree._Element]:
    """Not where its file is, when it was used and how much of it is filled."""
    node, spec = document(observed.xml), observed.config
    full = spec.format == "raw" and 0 < spec.capacity <= spec.allocation
    node.attrib.pop("type", "")
    for path in ("key", "physical", "target/path", "allocation"):
        parse_path(path).remove(node)
    if full:
        # in blocks of the file system, of which the last may reach beyond its end
        spec = spec.model_copy(update={"allocation": spec.capacity})
        parse_path("allocation").set(node, f"{spec.capacity:d}")
        parse_path("allocation/@unit").set(node, "bytes")
    for part in ("target", "backingStore"):
        parse_path(f"{part}/timestamps").remove(node)
    parse_path("backingStore/permissions").remove(node)
    if spec.encryption:
        from kvmstate.kinds.volume.luks import named

        path = document(observed.xml).findtext("target/path") or ""
        how = named(host, spec.encryption, host.uses.machines_with(observed.id, path), path)
        spec = spec.model_copy(update={"encryption": how})
        patch(parse_path("target/encryption").ensure(node), how, host.lookup)
        parse_path("target/encryption/secret/@type").set(node, "passphrase")
    omitted = {*(() if full else ("allocation",)), *(() if _exists(host, spec.backing) else ("backing",)), *AS_MADE}
    return owning(spec, *(spec.model_fields_set - omitted)), node


def _exists(host: Host, ref: VolumeRef | None) -> bool:
    try:
        return ref is not None and bool(host.lookup.volume_source(ref))
    except NotFound:
        return False


def steps(change: Change, at: Context) -> list[Step]:
    pool_name, _, name = change.id.name.partition("/")
    spec: VolumeSpec = change.spec
    host = at.host

    def pool() -> Pool:
        return pools.find(host.connection, pool_name)

    if change.action is Action.DELETE:
        permit = at.gate.removal(change)
        return [
            *wiped(change, pool, permit),
            simple("delete", lambda: _delete(host, pool(), volumes.find(pool(), name), permit)),
        ]
    moving = move.Move(change, at) if change.copies else None
    if change.action is Action.UPDATE and moving:
        return [Step("finish the copy", moving.finish), simple("move machines to it", moving.switch)]
    if change.action is Action.UPDATE:
        if change.effect is Effect.NONE:
            return []
        if change.shrinks:
            permit = at.gate.shrinking(change)
            return [simple("shrink", lambda: shrink(volumes.find(pool(), name), spec.capacity or 0, permit))]
        permit = at.gate.growing(change)
        return [simple("grow", lambda: grow(host, change.id, volumes.find(pool(), name), spec.capacity or 0, permit))]
    todo: list[Step] = []
    source: Source | None = None
    original: Original | None = None
    way: list[str] = []
    if spec.build:
        from kvmstate.kinds.volume import guestfs  # few images are built

        way = guestfs.way(host, spec)
    # before anything is deleted or made
    if moving:
        look = moving.look
        todo.append(Step(f"look at {moving.old}", lambda progress: look(), looks=True))
    elif spec.content and spec.content.volume:
        original = Original(host, spec.content.volume, spec.capacity, spec.content.live)
        todo.append(Step(f"look at {original.name}", lambda progress: original.look(), looks=True))
    elif spec.content:
        # few plans need it, and what fetches contents takes time to load
        from kvmstate.kinds.volume.content import Source

        source = given = Source(spec.content, change.checksum)

        def prepare(progress: Progress) -> None:
            given.prepare(spec.format, spec.capacity, progress, spec.encryption is not None)
            kept = host.lookup.files.type_of(pool_name) or spec.kept
            if not given.capacity and not spec.capacity and spec.kept_in(kept).fixed:
                raise HostError(
                    f"{given.name} is compressed: nobody knows what it needs, and it cannot grow while it is filled",
                    "write capacity, as large as what it unpacks to or larger",
                )

        todo.append(Step(f"look at {source.name}", prepare, looks=True))
        if spec.build and not way:
            run = partial(given.build, spec.build, spec.format, spec.capacity, change.id.name)
            todo.append(Step("build", run, looks=True))
        if how := spec.encryption:
            encrypt = partial(given.encrypt, how, host, spec.format, spec.capacity)
            todo.append(Step("encrypt", encrypt, looks=True))
    if change.action is Action.REPLACE:
        if machine := change.stops:

            def shut_down() -> None:
                domain = domains.find(host.connection, machine.name)
                domains.shutdown(domain, change.stop.timeout, change.stop.on_timeout == "destroy")

            todo.append(simple(f"shut down {machine}", shut_down))
        permit = at.gate.removal(change)

        def delete() -> None:
            # of a pool that has been moved meanwhile, the volumes are not in it
            with suppress(NotFound):
                _delete(host, pool(), volumes.find(pool(), name), permit)

        todo += [*wiped(change, pool, permit), simple("delete", delete)]

    def made(volume: Volume) -> None:
        host.known[VolumeRef(pool=pool_name, name=name)] = spec.format
        at.gate.made(change, _identity(host, pool_name, volume))

    def create(progress: Progress) -> None:
        # what tells one volume from another (`Change.uuid`) is not for its XML, which has no UUID
        kept = host.lookup.files.type_of(pool_name) or spec.kept
        base = spec.backing if kept.own_layers else None
        bare = replace(change, uuid="", spec=spec.model_copy(update={"backing": None}) if base else spec)
        node = written(bare, document(spec.remainder or BASE), host.lookup)
        if spec.format == "qcow2" and not spec.remainder and not spec.compat:
            # libvirt's own default is version 2, which has no bitmaps and discards nothing into layers
            parse_path("target/compat").set(node, QCOW2_V3)
        if source and spec.encryption:
            # what is uploaded is encrypted as a whole
            parse_path("target/encryption").remove(node)
        if spec.content and spec.format == "iso":
            # else libvirt has qemu-img make it, which writes a block: it would not look as if nobody had written to it
            parse_path("target/format/@type").set(node, "raw")
        # the plan could not tell, where the pool has been made since
        for why in refused(replace(change, action=Action.CREATE), kept):
            raise HostError(why.message, why.hint)
        if not kept.formats and not spec.remainder:
            # there is no word for it, and libvirt refuses or forgets the one that it is given
            parse_path("target/format").remove(node)
        if moving:
            moving.create(pool(), node, made, progress)
            return
        _set_name_and_size(node, name, spec.kept_in(kept), source or original, host)
        if spec.preallocation == "falloc":
            parse_path("allocation").set(node, node.findtext("capacity") or "0")
        if original is None:
            below = volumes.find(pool(), base.name) if base else None
            made(volumes.create(pool(), to_text(node), below, preallocated=spec.preallocation is not None))
            if base and spec.capacity:
                grow(host, change.id, volumes.find(pool(), name), spec.capacity, at.gate.filling(change))
            return
        if original.written_to():
            volume = volumes.create(pool(), to_text(node))
            made(volume)
            original.copied_live(volume, spec.format, at.gate.filling(change), progress)
        else:
            made(original.copied(pool(), name, to_text(node), made, progress))
        if spec.capacity and not spec.encryption:
            grow(host, change.id, volumes.find(pool(), name), spec.capacity, at.gate.filling(change))

    def build_there(progress: Progress) -> None:
        assert spec.build is not None
        volume = volumes.find(pool(), name)
        at.gate.filling(change).check(volume)
        guestfs.build_there(way, volume.path, spec.build, spec.format, change.id.name, progress)
        pools.refresh(pool())

    def build_copy(progress: Progress) -> None:
        assert source is not None
        assert spec.build is not None
        pieces = volumes.download(host.connection, volumes.find(pool(), name))
        source.take(pieces, spec.build, spec.format, change.id.name, progress)

    def upload(progress: Progress) -> None:
        assert source is not None
        volume, permit = volumes.find(pool(), name), at.gate.filling(change)
        with source.open() as stream:
            # it may be another file than the one that was looked at before
            if not stream.check(spec.format).is_one(spec.format):
                raise HostError(f"{source.name} is another image by now", "apply again")
            kept = host.lookup.files.type_of(pool_name) or spec.kept
            # what takes all of its space at once has it by now
            room = pools.space(pool())[1] + (spec.allocation or 0) if kept.sparse else sys.maxsize
            chunks = stream.bounded(spec.capacity, room)

            def done() -> None:
                progress(stream.taken, stream.length)

            # what has been reserved for it stays so, where it is zeros; an image's tables are written over
            image = spec.format == "qcow2"
            reserved = not image and bool(spec.allocation or spec.preallocation)
            with direct.opened(host.sight, pool(), volume, permit, image) as file:
                if file is None:
                    over = sys.maxsize if original else _TABLES if image else 0
                    volumes.upload(host.connection, volume, chunks, stream.size, lambda _: done(), permit, over)
                elif reserved or not stream.cloned(file.clone, file.number):
                    file.write(chunks, done, reserved)
        if spec.encryption:
            # it is as large as it shall be: libvirt sees it only when it looks at it again
            pools.refresh(pool())
        elif spec.capacity:
            grow(host, change.id, volumes.find(pool(), name), spec.capacity, permit)

    todo.append(Step(f"copy {original.name}" if original else "create", create))
    if moving:
        todo += [Step(f"copy {moving.old}", moving.copy), simple("move machines to it", moving.switch)]
    if original and spec.build and not way:
        from kvmstate.kinds.volume.content import Source

        source = Source(Content.model_construct(), name=original.name)
        todo.append(Step("build", build_copy))
    if source:
        todo.append(Step(f"upload {source.name}", upload))
    if way:
        todo.append(Step("build on the host", build_there))
    return todo


def _delete(host: Host, pool: Pool, volume: Volume, permit: Permit) -> None:
    if (kind := host.lookup.files.type_of(pool.name)) and kind.own_layers:
        from kvmstate.host import rbd

        rbd.delete(host, pool, volume, permit)
    else:
        volumes.delete(volume, permit)


def wiped(change: Change, pool: Callable[[], Pool], permit: Permit) -> list[Step]:
    """Before it is deleted, where its lifecycle says so."""
    algorithm, name = change.lifecycle.wipe, change.id.name.partition("/")[2]

    def wipe() -> None:
        with suppress(NotFound):
            volumes.wipe(volumes.find(pool(), name), algorithm or "", permit)

    return [simple(f"wipe ({algorithm})", wipe)] if algorithm else []


def adopted(change: Change, at: Context) -> list[Step]:
    """What could not be told at a glance is told once: which object of this name it is."""
    pool_name, _, name = change.id.name.partition("/")

    def identify() -> None:
        volume = volumes.find(pools.find(at.host.connection, pool_name), name)
        at.gate.made(change, _identity(at.host, pool_name, volume))

    return [] if change.uuid != UNKNOWN else [simple("see which volume it is", identify)]


def users(host: Host, change: Change) -> set[User]:
    if change.observed is None:
        return set()
    return host.uses.of_volume(change.id, document(change.observed.xml).findtext("target/path") or "")


def _identity(host: Host, pool: str, volume: Handle) -> str:
    assert isinstance(volume, Volume)
    kind, text = host.lookup.files.type_of(pool), volumes.xml(volume)
    # few pools have a tool of their own to ask, and this is asked before each deed
    asked = kind is not None and kind.identity == "own"
    own = _own(host, kind, pools.find(host.connection, pool), {volume.name}).get(volume.name) if asked else None
    return identity(host.sight, kind, volume.key, text, lambda: volumes.xml(volume), own.id if own else None)


def _own(host: Host, kind: PoolType | None, pool: Pool, names: Set[str]) -> dict[str, Own]:
    if kind is None or kind.identity != "own" or not names:
        return {}
    from kvmstate.host.own_ids import own_ids  # few pools have any

    return own_ids(host, pool, names)


def _set_name_and_size(node: Any, name: str, spec: VolumeSpec, source: Source | Original | None, host: Host) -> None:
    node.find("name").text = name
    if node.find("allocation") is None and spec.kept.sparse:
        # libvirt would reserve all of a raw volume at once; a logical one with less is lost when it has filled that
        parse_path("allocation").set(node, "0")
    if source:
        capacity = source.capacity
        # what cannot grow after the upload has its size from the beginning
        whole = max(capacity, spec.capacity or 0) if spec.fixed or spec.encryption else capacity
        parse_path("capacity").set(node, f"{whole:d}")
    elif not spec.capacity and spec.backing:
        base = volumes.find(pools.find(host.connection, spec.backing.pool), spec.backing.name)
        parse_path("capacity").set(node, document(volumes.xml(base)).findtext("capacity") or "0")


def unwritten(observed: Observed) -> bool:
    """Whether nothing has ever been written to a volume. Of what is not a file nobody can tell."""
    if observed.config.kept.volumes is not Volumes.FILES:
        return False
    return volumes.never_written(document(observed.xml))


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    adopted,
    users=users,
    in_use=base.in_use,
    identity=lambda host, id_, volume: _identity(host, id_.name.partition("/")[0], volume),
    unwritten=unwritten,
    checked=checked,
    judge=judge,
    room=room,
    copying=move.refused,
)
