"""Volumes on a host: observe, create with their content, grow, delete."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host, domains, pools, volumes
from kvmstate.kind import Progress, Step, simple, written
from kvmstate.kinds.volume import content
from kvmstate.kinds.volume.spec import VolumeSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.snapshots.chain import frozen, overlays
from kvmstate.xmlbind import document, owning, parse, to_text
from kvmstate.xmlbind.path import parse_path

BASE = "<volume><name/><capacity unit='bytes'>0</capacity></volume>"
# What a guest changes by reading and writing
VOLATILE = re.compile(r"<(timestamps|allocation|physical)\b.*?</\1>", re.DOTALL)


def names(host: Host) -> set[str]:
    """Those of active pools, without the files of snapshots: they come and go with these."""
    every, passing = pools.all_pools(host.connection), overlays(host)
    listed = ((pool, volume) for pool in every for volume in pools.volumes(pool))
    return {f"{pool.name()}/{volume.name()}" for pool, volume in listed if not passing or volume.path() not in passing}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    """Volumes of active pools only: what is in the others is not known."""
    found: dict[str, Observed] = {}
    for pool_name in sorted({name.partition("/")[0] for name in names}):
        try:
            listed = pools.volumes(pools.find(host.connection, pool_name))
        except NotFound:
            continue
        wanted = [volume for volume in listed if f"{pool_name}/{volume.name()}" in names]
        host.lookup.remember(pool_name, wanted)
        found |= {seen.id.name: seen for seen in host.each(lambda v: _look(host, pool_name, v), wanted)}  # noqa: B023
    return found


def _look(host: Host, pool: str, volume: Any) -> Observed:
    """Raises NotFound when the volume has gone."""

    def read(seen: Observed) -> tuple[VolumeSpec, None]:
        return parse(VolumeSpec, document(seen.xml), host.lookup).model_copy(update=seen.calls), None

    id_ = ResourceId("volume", f"{pool}/{volume.name()}")
    return Observed(id_, volume.key(), volumes.xml(volume), None, {"pool": pool}, read, VOLATILE)


def complete(resource: Resource, observed: Observed | None, project: str) -> VolumeSpec:
    spec: VolumeSpec = resource.spec
    return spec if spec.remainder else spec.model_copy(update={"format": spec.format})


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
    omitted = {*(() if full else ("allocation",)), *(() if _exists(host, spec.backing) else ("backing",))}
    return owning(spec, *(spec.model_fields_set - omitted)), node


def _exists(host: Host, ref: VolumeRef | None) -> bool:
    try:
        return ref is not None and bool(host.lookup.volume_source(ref))
    except NotFound:
        return False


def steps(change: Change, host: Host, project: str) -> list[Step]:
    pool_name, _, name = change.id.name.partition("/")
    spec: VolumeSpec = change.spec

    def pool() -> Any:
        return pools.find(host.connection, pool_name)

    def delete() -> None:
        volume = volumes.find(pool(), name)
        _refuse_if_used(host, volume)
        volumes.delete(volume)

    if change.action is Action.DELETE:
        return [simple("delete", delete)]
    if change.action is Action.UPDATE:
        if all(f.path[0] == "lifecycle" for f in change.fields):
            return []
        return [simple("grow", lambda: grow(host, volumes.find(pool(), name), spec.capacity or 0))]
    todo = [simple("delete", delete)] if change.action is Action.REPLACE else []
    source = content.Source(spec.content, change.checksum) if spec.content else None

    def create() -> None:
        node = written(change, document(spec.remainder or BASE), host.lookup)
        _set_name_and_size(node, name, spec, source, host)
        volumes.create(pool(), to_text(node))

    def upload(progress: Progress) -> None:
        assert source is not None
        volume = volumes.find(pool(), name)
        with source.open() as stream:
            size = stream.length
            volumes.upload(host.connection, volume, stream, size, lambda done: progress(done, size))
        if spec.capacity:
            grow(host, volumes.find(pool(), name), spec.capacity)

    todo.append(simple("create", create))
    if source:
        todo.append(Step(f"upload {source.name}", upload))
    return todo


def _set_name_and_size(node: Any, name: str, spec: VolumeSpec, source: content.Source | None, host: Host) -> None:
    node.find("name").text = name
    if node.find("allocation") is None:
        # libvirt would reserve all of a raw volume at once
        parse_path("allocation").set(node, "0")
    if source:
        with source.open() as stream:
            capacity = stream.check_format(spec.format)
        if spec.capacity and spec.capacity < capacity:
            raise HostError(
                f"capacity is less than what the content needs ({capacity} bytes)", "raise capacity or leave it out"
            )
        node.find("capacity").text = str(capacity)
    elif not spec.capacity and spec.backing:
        base = volumes.find(pools.find(host.connection, spec.backing.pool), spec.backing.name)
        node.find("capacity").text = document(volumes.xml(base)).findtext("capacity")


def grow(host: Host, volume: Any, capacity: int) -> None:
    """Through the running domain that has it open, if there is one; never to less than it is."""
    if int(document(volumes.xml(volume)).findtext("capacity") or 0) >= capacity:
        return
    if owners := frozen(host).get(volume.path()):
        raise HostError(
            f"{min(owners)} keeps this volume as it is", "merge first: `kvmstate snapshot merge`, then apply again"
        )
    for domain in domains.all_domains(host.connection):
        if domains.state(domain) == "stopped":
            continue
        for disk in document(domains.xml(domain, inactive=False)).iterfind("devices/disk"):
            source, target = disk.find("source"), disk.find("target")
            if source is not None and target is not None and volume.path() in source.attrib.values():
                domains.block_resize(domain, target.get("dev", ""), capacity)
                return
    volumes.resize(volume, capacity)


def _refuse_if_used(host: Host, volume: Any) -> None:
    """Raises HostError while any domain or volume of the host, whoever's it is, refers to the volume."""
    path = volume.path()
    if owners := frozen(host).get(path):
        raise HostError(f"{min(owners)} needs this volume", "delete the snapshot first: `kvmstate snapshot delete`")
    for domain in domains.all_domains(host.connection):
        try:
            texts = [domains.xml(domain), domains.xml(domain, inactive=False)]
        except NotFound:
            # undefined meanwhile: it refers to nothing any more
            continue
        if any(path in element.attrib.values() for text in texts for element in document(text).iter("source")):
            raise HostError(f"virtual machine {domain.name()} uses this volume", "detach it there first")
    for pool in pools.all_pools(host.connection):
        for other in pools.volumes(pool):
            try:
                backing = document(volumes.xml(other)).findtext("backingStore/path")
            except NotFound:
                continue
            if backing == path:
                raise HostError(
                    f"volume {pool.name()}/{other.name()} is a layer over this volume", "delete that one first"
                )
