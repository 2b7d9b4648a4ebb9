"""Storage pools on a host: observe, and make changes real."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from kvmstate.host import Host, pools
from kvmstate.kind import Step, simple, written
from kvmstate.kinds.storage_pool.spec import DirPool, PoolSpec, StoragePoolSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text
from kvmstate.xmlbind.binding import variant

BASE = "<pool><name/></pool>"


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    found = {}
    for pool in pools.all_pools(host.connection):
        if pool.name() not in names:
            continue
        running = bool(pool.isActive())
        text = pools.xml(pool)
        active_text = pools.xml(pool, inactive=False) if running else None
        own = {"active": running, "autostart": bool(pool.autostart())}
        config = _read(text, own)
        active = _read(active_text, own) if active_text else None
        found[pool.name()] = Observed(
            ResourceId("pool", pool.name()), pool.UUIDString(), config, active, text, active_text
        )
    return found


def _read(text: str, own: dict[str, Any]) -> PoolSpec:
    node = document(text)
    spec: PoolSpec = parse(variant((StoragePoolSpec,), node), node).model_copy(update=own)  # type: ignore[assignment]
    return spec


def complete(resource: Resource, observed: Observed | None, project: str) -> PoolSpec:
    spec: DirPool = resource.spec
    return spec.model_copy(update={"active": spec.active})


def steps(change: Change, host: Host, project: str) -> list[Step]:
    name, spec = change.id.name, change.spec

    def find() -> Any:
        return pools.find(host.connection, name)

    def define() -> None:
        node = document(pools.xml(find()) if change.observed and change.action is Action.UPDATE else BASE)
        pools.define(host.connection, to_text(written(change, node, host.lookup)))
        host.forget()

    def on_pool(call: Callable[[Any], None]) -> Callable[[], None]:
        def run() -> None:
            call(find())
            host.forget()

        return run

    todo = []
    if change.action in (Action.DELETE, Action.REPLACE):
        todo.append(simple("stop and undefine, leaving its volumes", on_pool(pools.undefine)))
        if change.action is Action.DELETE:
            return todo
    fresh = change.action in (Action.CREATE, Action.REPLACE)
    if fresh or any(f.path[0] not in ("active", "autostart") for f in change.fields):
        todo.append(simple("define", define))
    if spec.autostart is not None:
        todo.append(simple("set autostart", lambda: pools.set_autostart(find(), spec.autostart)))
    if change.running and not fresh and (change.restarts or not spec.active):
        todo.append(simple("stop", on_pool(pools.stop)))
    if spec.active and (fresh or change.restarts or not change.running):
        todo.append(simple("build and start", on_pool(pools.start)))
    return todo
