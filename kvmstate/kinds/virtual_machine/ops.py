"""Virtual machines on a host: observe, and make changes real without surprises."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, domains
from kvmstate.host.connection import once
from kvmstate.kind import Step, simple, stamp_element, stamping, written
from kvmstate.kinds.virtual_machine import checked, live
from kvmstate.kinds.virtual_machine.defaults import base, derived_mac, named_interfaces, placed
from kvmstate.kinds.virtual_machine.portable import portable as portable
from kvmstate.kinds.virtual_machine.rebuild import rebuild
from kvmstate.kinds.virtual_machine.settle import settle
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.snapshots.chain import frozen
from kvmstate.snapshots.merge import merge
from kvmstate.xmlbind import document, parse, to_text
from kvmstate.xmlbind.path import parse_path

# Fields that are not in the XML: libvirt has calls of their own for them.
CALLS = ("state", "autostart")


def names(host: Host) -> set[str]:
    return {each.name() for each in domains.all_domains(host.connection)}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    running, autostarted = domains.active(host.connection), domains.autostarted(host.connection)
    transient = domains.transient(host.connection) if running else set()

    def look(domain: Any) -> Observed:
        uuid = domain.UUIDString()
        state = domains.state(domain) if uuid in running else "stopped"
        active_xml = domains.xml(domain, inactive=False) if state != "stopped" else None
        calls = {"state": state, "autostart": uuid in autostarted}
        id_ = ResourceId("domain", domain.name())
        kept = uuid not in transient
        return Observed(
            id_, uuid, domains.xml(domain), active_xml, calls, lambda seen: _read(seen, host.lookup), persistent=kept
        )

    wanted = [domain for domain in domains.all_domains(host.connection) if domain.name() in names]
    return {seen.id.name: seen for seen in host.each(look, wanted)}


def _read(seen: Observed, lookup: Any) -> tuple[VirtualMachineSpec, VirtualMachineSpec | None]:
    def spec(node: etree._Element) -> VirtualMachineSpec:
        return parse(VirtualMachineSpec, node, lookup).model_copy(update=seen.calls)

    config = spec(document(seen.xml))
    return config, _settled(config, spec, document(seen.active_xml)) if seen.active_xml else None


def _settled(
    config: VirtualMachineSpec, spec: Callable[[etree._Element], VirtualMachineSpec], node: etree._Element
) -> VirtualMachineSpec:
    """The active configuration without what libvirt only spells out in it."""
    active = spec(node)
    update: dict[str, Any] = {}
    if config.cpu and config.cpu.mode in ("host-model", "maximum") and _is_expanded(node):
        # to a custom model and its features when the domain starts
        update["cpu"] = config.cpu
    if active.memory > config.memory:
        # a guest that boots, or has no balloon driver, has not given the difference back: not an edit of anybody's
        update["memory"] = config.memory
    return active.model_copy(update=update)


def _is_expanded(node: etree._Element) -> bool:
    """Not one that still runs with the model that a manifest named before: libvirt writes the vendor, on x86."""
    custom = parse_path("cpu/@mode").text(node) == "custom"
    x86 = parse_path("os/type/@arch").text(node) in ("x86_64", "i686")
    return not (custom and x86) or node.find("cpu/vendor") is not None


def complete(resource: Resource, observed: Observed | None, project: str) -> VirtualMachineSpec:
    spec: VirtualMachineSpec = resource.spec
    seen: VirtualMachineSpec | None = observed.config if observed else _remembered(spec)
    interfaces = [
        i.model_copy(
            update={
                # one that it has stays, also when the machine is renamed
                "mac": i.mac
                or getattr(_item(seen, "interfaces", i.name), "mac", None)
                or derived_mac(project, resource.id.name, i.name or ""),
                **({} if i.model or _item(seen, "interfaces", i.name) else {"model": "virtio"}),
            }
        )
        for i in named_interfaces(spec.interfaces, seen.interfaces if seen else [])
    ]
    update: dict[str, Any] = {
        "state": spec.state if spec.state != "ignore" else observed.config.state if observed else "stopped"
    }
    for name in ("memory", "cpus"):
        # what may change by itself is no measure for its limit
        ignored = observed is not None and name in resource.lifecycle.ignore_changes
        if limit := getattr(spec, f"max_{name}") or (None if ignored else getattr(spec, name)):
            update[f"max_{name}"] = limit
    for name, items in (("interfaces", interfaces), ("disks", _with_targets(spec, seen))):
        if name in spec.model_fields_set:
            update[name] = items
    return spec.model_copy(update=update)


def _remembered(spec: VirtualMachineSpec) -> VirtualMachineSpec | None:
    """Devices that the remainder has a part of are as good as seen, as their fields say: nothing is defaulted."""
    if (rest := spec.rest) is None:
        return None
    seen = parse(VirtualMachineSpec, rest)
    return seen.model_copy(update={"disks": [disk for disk in spec.disks if _item(seen, "disks", disk.name)]})


def _with_targets(spec: VirtualMachineSpec, seen: VirtualMachineSpec | None) -> list[Any]:
    """New disks get a device name and a bus; those that exist keep theirs unless the manifest names others."""
    taken = {d.target for d in [*spec.disks, *(seen.disks if seen else [])] if d.target}
    return [
        disk.model_copy(update={"device": disk.device, **placed(disk, _item(seen, "disks", disk.name), taken)})
        for disk in spec.disks
    ]


def _item(seen: VirtualMachineSpec | None, field: str, name: str | None) -> Any:
    return next((item for item in getattr(seen, field, []) if item.name == name), None)


# Asked once a connection: libvirt goes through all domains for it, and a thousand new machines would ask as often
_preserved = once(frozen)


def _refuse_what_snapshots_need(host: Host, spec: VirtualMachineSpec, observed: Observed | None) -> None:
    """A volume below the overlays of snapshots shall not come to be written to. Raises HostError."""
    seen = observed.config if observed else None
    known = {disk.volume for disk in (seen.disks if seen else [])}
    coming = [disk.volume for disk in spec.disks if disk.volume and not disk.read_only and disk.volume not in known]
    needed = _preserved(host) if coming else {}
    for volume in coming if needed else []:
        if owners := needed.get(host.lookup.volume_source(volume).path):
            raise HostError(
                f"volume {volume} is what {', '.join(sorted(owners))} preserves, and what was written since is in a "
                "file over it: a machine that writes to the volume would destroy both",
                "use that file instead (file: …; `kvmstate snapshot tree` shows it); only if nobody needs what it "
                "holds, delete the snapshot first",
            )


def steps(change: Change, host: Host, project: str) -> list[Step]:
    name, spec, stop = change.id.name, change.spec, change.lifecycle.stop

    def find() -> Any:
        return domains.find(host.connection, name)

    def define() -> None:
        _refuse_what_snapshots_need(host, spec, change.observed)
        old = document(domains.xml(find(), secure=True)) if change.observed else base(host, spec)
        node = written(change, old, host.lookup, project)

        def put(node: etree._Element, validate: bool) -> None:
            if spec.remainder and not change.observed:
                rebuild(host, node, validate)
            else:
                settle(node)
                domains.define(host.connection, to_text(node), validate)

        # only what people write by path can be unknown to libvirt; its schema takes longer than the rest of the call
        checked.define(node, [path for path, value in spec.xml.items() if value is not None], put)

    def shut_down(name: str = name) -> None:
        domains.shutdown(domains.find(host.connection, name), stop.timeout, stop.on_timeout == "destroy")

    if change.action is Action.DELETE:
        drop = change.lifecycle.deletion == "delete"
        return [
            *([simple("shut down", shut_down)] if change.running else []),
            # its volumes stay: they shall hold what it wrote last
            simple("merge external snapshots", lambda: merge(host, name)),
            simple("undefine", lambda: domains.undefine(find(), drop_state=drop)),
        ]
    todo = []
    if old := change.moved_from:
        if change.running:
            todo.append(simple("shut down", lambda: shut_down(old.name)))
        todo.append(simple(f"rename {old.name}", lambda: domains.rename(host.connection, old.name, name)))
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


def adopted(change: Change, host: Host, project: str) -> list[Step]:
    mark = stamp_element(project, change.lifecycle)
    name = change.id.name
    return stamping(change, project, lambda: domains.set_metadata(domains.find(host.connection, name), *mark))
