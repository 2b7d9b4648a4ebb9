"""Virtual machines on a host: observe, and make changes real without surprises."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from kvmstate.host import Host, domains
from kvmstate.kind import Step, simple, written
from kvmstate.kinds.virtual_machine import live
from kvmstate.kinds.virtual_machine.defaults import (
    BUS_PREFIX,
    base,
    bus_of,
    derived_mac,
    free_target,
    named_interfaces,
)
from kvmstate.kinds.virtual_machine.settle import settle
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text

# Fields that are not in the XML: libvirt has calls of their own for them.
CALLS = ("state", "autostart")


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    found = {}
    for domain in domains.all_domains(host.connection):
        if domain.name() not in names:
            continue
        state = domains.state(domain)
        text = domains.xml(domain)
        active_text = domains.xml(domain, inactive=False) if state != "stopped" else None
        own = {"state": state, "autostart": bool(domain.autostart())}
        config = parse(VirtualMachineSpec, document(text), host.lookup).model_copy(update=own)
        active = None
        if active_text:
            active = parse(VirtualMachineSpec, document(active_text), host.lookup).model_copy(update=own)
            active = _settled(config, active)
        found[domain.name()] = Observed(
            ResourceId("domain", domain.name()), domain.UUIDString(), config, active, text, active_text
        )
    return found


def _settled(config: VirtualMachineSpec, active: VirtualMachineSpec) -> VirtualMachineSpec:
    """The active configuration without what libvirt only spells out in it."""
    update: dict[str, Any] = {}
    if config.cpu and config.cpu.mode in ("host-model", "maximum"):
        # expanded to a custom model and its features when the domain starts
        update["cpu"] = config.cpu
    if active.memory > config.memory:
        # a guest that boots, or has no balloon driver, has not given the difference back: not an edit of anybody's
        update["memory"] = config.memory
    return active.model_copy(update=update)


def complete(resource: Resource, observed: Observed | None, project: str) -> VirtualMachineSpec:
    spec: VirtualMachineSpec = resource.spec
    seen: VirtualMachineSpec | None = observed.config if observed else None
    interfaces = [
        i.model_copy(
            update={
                "mac": i.mac or derived_mac(project, resource.id.name, i.name or ""),
                **({} if i.model or _item(seen, "interfaces", i.name) else {"model": "virtio"}),
            }
        )
        for i in named_interfaces(spec.interfaces)
    ]
    update: dict[str, Any] = {
        "state": spec.state if spec.state != "ignore" else seen.state if seen else "stopped",
        "max_memory": spec.max_memory or spec.memory,
    }
    if spec.cpus is not None:
        update["max_cpus"] = spec.max_cpus or spec.cpus
    for name, items in (("interfaces", interfaces), ("disks", _with_targets(spec, seen))):
        if name in spec.model_fields_set:
            update[name] = items
    return spec.model_copy(update=update)


def _with_targets(spec: VirtualMachineSpec, seen: VirtualMachineSpec | None) -> list[Any]:
    """New disks get a device name and a bus; those that exist keep theirs unless the manifest names others."""
    taken = {d.target for d in [*spec.disks, *(seen.disks if seen else [])] if d.target}
    disks = []
    for disk in spec.disks:
        update: dict[str, Any] = {"device": disk.device}
        if not _item(seen, "disks", disk.name):
            update["bus"] = bus_of(disk)
            update["target"] = disk.target or free_target(BUS_PREFIX[update["bus"]], taken)
            taken.add(update["target"])
        disks.append(disk.model_copy(update=update))
    return disks


def _item(seen: VirtualMachineSpec | None, field: str, name: str | None) -> Any:
    return next((item for item in getattr(seen, field, []) if item.name == name), None)


def steps(change: Change, host: Host, project: str) -> list[Step]:
    name, spec, stop = change.id.name, change.spec, change.lifecycle.stop

    def find() -> Any:
        return domains.find(host.connection, name)

    def define() -> None:
        old = document(domains.xml(find(), secure=True)) if change.observed else base(host, spec)
        node = settle(written(change, old, host.lookup, project))
        # what libvirt once accepted from others may fail its own schema; what is new here must not
        domains.define(host.connection, to_text(node), validate=change.observed is None or bool(spec.xml))

    def shut_down() -> None:
        domains.shutdown(find(), stop.timeout, stop.on_timeout == "destroy")

    if change.action is Action.DELETE:
        drop = change.lifecycle.deletion == "delete"
        return [
            *([simple("shut down", shut_down)] if change.running else []),
            simple("undefine", lambda: domains.undefine(find(), drop_state=drop)),
        ]
    todo = []
    if change.observed is None or any(f.path[0] not in CALLS for f in change.fields):
        todo.append(simple("define", define))
    if spec.autostart is not None:
        todo.append(simple("set autostart", lambda: domains.set_autostart(find(), spec.autostart)))
    stays = change.running and spec.state != "stopped" and not change.restarts
    if stays:
        todo += [live.step(host, change, f) for f in live.ordered(change.live) if f.path[0] not in CALLS]
    if change.running and not stays:
        todo.append(simple("shut down", shut_down))
    if spec.state != "stopped" and not stays:
        todo.append(simple("start", lambda: domains.start(find(), paused=spec.state == "paused")))
    elif stays and change.observed and spec.state != change.observed.config.state:
        switch = domains.suspend if spec.state == "paused" else domains.resume
        todo.append(simple("suspend" if spec.state == "paused" else "resume", lambda: switch(find())))
    return todo
