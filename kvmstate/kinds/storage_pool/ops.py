"""Storage pools on a host: observe, and make changes real."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from typing import Any

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, pools
from kvmstate.host.objects import Pool
from kvmstate.kind import Context, Ops, Space
from kvmstate.kind.compose import written
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.storage_pool import build
from kvmstate.kinds.storage_pool.base import PoolSpec
from kvmstate.kinds.storage_pool.spec import MEMBERS, VOLATILE, OtherPool
from kvmstate.kinds.storage_pool.types.dir import DirPool
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text, without
from kvmstate.xmlbind.path import parse_path

BASE = "<pool><name/></pool>"
# How full it is
_FIGURES = re.compile(r"<(capacity|allocation|available)\b.*?</\1>|<freeExtent\b[^>]*>")
DERIVED_TARGET = ("logical", "zfs")
# What has calls of its own, or is in the record alone
_NOT_XML = ("active", "autostart", "build", "lifecycle")
# By which release
REMOVED = {"sheepdog": "8.8"}


def names(host: Host) -> set[str]:
    return {each.name for each in pools.all_pools(host.connection)}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    def look(pool: Pool) -> Observed:
        running = pool.active
        active_xml = pools.xml(pool, inactive=False) if running else None
        calls = {"active": running, "autostart": pool.autostart}
        id_, kept = ResourceId("pool", pool.name), not running or pool.persistent
        return Observed(id_, pool.uuid, pools.xml(pool), active_xml, calls, _read, _FIGURES, kept)

    return {seen.id.name: seen for seen in host.each(look, pools.named(host.connection, names))}


def _read(seen: Observed) -> tuple[PoolSpec, PoolSpec | None]:
    def spec(text: str) -> PoolSpec:
        node = document(text)
        section: Any = MEMBERS.named(node.get("type")) or OtherPool
        pool: PoolSpec = parse(section, node)
        return pool.model_copy(update=seen.calls)

    return spec(seen.xml), spec(seen.active_xml) if seen.active_xml else None


def complete(resource: Resource, observed: Observed | None, project: str) -> PoolSpec:
    spec: PoolSpec = resource.spec
    return spec


def portable(observed: Observed, host: Host) -> tuple[PoolSpec, etree._Element]:
    node = document(without(observed.xml, VOLATILE))
    if observed.config.type in DERIVED_TARGET:
        # libvirt makes it of the name, and reads none
        parse_path("target/path").remove(node)
    for name in ("source", "target"):
        if (part := node.find(name)) is not None and not len(part) and not part.attrib:
            node.remove(part)
    if not observed.persistent:
        raise HostError("it is transient: it has no configuration that would stay", "make it persistent with `virsh`")
    return observed.config, node


def checked(host: Host, change: Change, entry: Entry | None) -> Change:
    """A pool of a type that this host's libvirt has not would fail half-way; and what may be built is looked at."""
    makes = change.action in (Action.CREATE, Action.REPLACE) and change.spec is not None
    if not makes or not host.pool_types or change.spec.type in host.pool_types:
        return build.planned(host, change, entry)
    removed = REMOVED.get(change.spec.type)
    hint = f"libvirt {removed} removed it" if removed else "install the package of libvirt's driver for it there"
    return replace(change, blocked=f"this host's libvirt has no pools of type {change.spec.type}", hint=hint)


def steps(change: Change, at: Context) -> list[Step]:
    name, spec, host = change.id.name, change.spec, at.host

    def find() -> Pool:
        return pools.find(host.connection, name)

    def define() -> None:
        if change.observed and change.action is Action.UPDATE:
            before = pools.configuration(find())
            pools.redefine(before, to_text(written(change, document(before.text), host.lookup)))
        else:
            node = document(spec.remainder or BASE)
            pools.define(host.connection, to_text(written(change, node, host.lookup)))
        host.forget()

    def on_pool(call: Callable[[Pool], None]) -> Callable[[], None]:
        def run() -> None:
            call(find())
            host.forget()

        return run

    def start(pool: Pool) -> None:
        build.noted(change, at, pool)
        pools.start(pool, **_folder(spec, defines))

    todo: list[Step] = []
    if change.destroys:
        todo += build.unbuilt(change, at)
        permit = at.gate.removal(change)
        todo.append(
            simple("stop and undefine, leaving its volumes", on_pool(lambda pool: pools.undefine(pool, permit)))
        )
        if change.action is Action.DELETE:
            return todo
    fresh = change.action in (Action.CREATE, Action.REPLACE)
    defines = fresh or any(f.path[0] not in _NOT_XML for f in change.fields)
    if defines:
        todo.append(simple("define", define))
    if spec.autostart is not None:
        todo.append(simple("set autostart", lambda: pools.set_autostart(find(), spec.autostart)))
    if change.running and not fresh and (change.restarts or not spec.active):
        todo.append(simple("stop", on_pool(pools.stop)))
    todo += build.built(change, at)
    if spec.active and (fresh or change.restarts or not change.running):
        todo.append(simple("start", on_pool(start)))
    return todo


def _folder(spec: PoolSpec, defines: bool) -> dict[str, bool]:
    """What a start does about the pool's folder. Its mode is libvirt's to remember: only what the manifest asks for, or
    what has just been written, is set."""
    asked = isinstance(spec, DirPool) and (defines or spec.target.permissions is not None)
    return {"makes_folder": spec.keeps().makes_folder and spec.build != "never", "permissions": asked}


def space(observed: Observed) -> Space | None:
    if observed.active_xml is None:
        return None
    pool = document(observed.active_xml)
    return Space(*(int(pool.findtext(name) or 0) for name in ("capacity", "allocation", "available")))


def offers(host: Host, type_: str, server: str) -> Iterable[Resource | HostError]:
    from kvmstate.kinds.storage_pool.offers import offers  # few commands ask

    return offers(host, type_, server)


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    users=lambda host, change: host.uses.of_pool(change.id.name),
    checked=checked,
    space=space,
    offers=offers,
    begun=lambda host, spec: document(spec.remainder or BASE),
)
