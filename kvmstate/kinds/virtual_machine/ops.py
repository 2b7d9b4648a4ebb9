"""Virtual machines on a host: observe, and make changes real without surprises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, agent, domains, installation, power
from kvmstate.host.addresses import addresses
from kvmstate.host.connection import Glimpse
from kvmstate.host.objects import Domain
from kvmstate.host.permit import Changed
from kvmstate.kind import Context, Ops, Scene, referring
from kvmstate.kind.compose import written
from kvmstate.kind.stamps import stamp_element, stamping
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.virtual_machine import checked, replugged, restart, served
from kvmstate.kinds.virtual_machine.above import (
    keep_layers_elsewhere,
    keep_what_lies_above,
    keep_what_was_written_elsewhere,
)
from kvmstate.kinds.virtual_machine.defaults import base, obvious
from kvmstate.kinds.virtual_machine.devices.base import Owner, item_named, items
from kvmstate.kinds.virtual_machine.devices.interface import named_interfaces
from kvmstate.kinds.virtual_machine.portable import portable, secrets
from kvmstate.kinds.virtual_machine.rebuild import rebuild
from kvmstate.kinds.virtual_machine.refusals import refuse_disk_weights
from kvmstate.kinds.virtual_machine.removed import removed
from kvmstate.kinds.virtual_machine.restart import CALLS
from kvmstate.kinds.virtual_machine.settings import Cpu
from kvmstate.kinds.virtual_machine.settle import settle
from kvmstate.kinds.virtual_machine.spec import DEVICES, VirtualMachineSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.reference import Lookup
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.snapshots import underway
from kvmstate.snapshots.chain import frozen_lately
from kvmstate.xmlbind import disk_source, document, owning, parse, to_text
from kvmstate.xmlbind.path import parse_path

# What a machine's state is called while its installer runs
INSTALLING = "installing"


def names(host: Host) -> set[str]:
    return {each.name for each in domains.all_domains(host.connection)}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    status = domains.statuses(host.connection, names)
    saved = domains.saved(host.connection, names)
    glimpse, texts = Glimpse(), dict[str, tuple[str, str | None]]()

    def look(domain: Domain) -> Observed:
        uuid = domain.uuid
        running, autostart, kept = status(domain)
        state = domains.state(domain) if running else "stopped"
        active_xml = domains.xml(domain, inactive=False) if state != "stopped" else None
        if installation.runs(active_xml):
            state = INSTALLING
        calls = {"state": state, "autostart": autostart}
        id_ = ResourceId("domain", domain.name)
        kept_memory = domains.saved_xml(domain) if active_xml is None and saved(domain) else None
        text = domains.xml(domain)
        if active_xml or not running:
            texts[domain.name] = text, active_xml
        return Observed(
            id_,
            uuid,
            text,
            active_xml,
            calls,
            lambda seen: _read(seen, host.lookup),
            persistent=kept,
            saved_xml=kept_memory,
            ask=lambda seen: _with_secrets(seen, domain),
            read_names=lambda seen: parse(VirtualMachineSpec, document(seen.xml), host.lookup, referring),
        )

    found = {seen.id.name: seen for seen in host.each(look, domains.named(host.connection, names))}
    if len(names) > domains.FEW and "domain" not in host.glimpses:
        glimpse.end(texts)
        host.glimpses["domain"] = glimpse
    return found


def _with_secrets(seen: Observed, domain: Domain) -> Observed:
    try:
        return replace(
            seen,
            xml=domains.xml(domain, secure=True),
            active_xml=domains.xml(domain, inactive=False, secure=True) if seen.active_xml else None,
            saved_xml=domains.saved_xml(domain, secure=True) if seen.saved_xml else None,
            has_secrets=True,
        )
    except ConnectionFailed:
        raise
    except HostError:
        # who may not see them, or a machine that has just gone
        return seen


def _read(seen: Observed, lookup: Lookup) -> tuple[VirtualMachineSpec, VirtualMachineSpec | None]:
    def spec(node: etree._Element) -> VirtualMachineSpec:
        return parse(VirtualMachineSpec, node, lookup).model_copy(update=seen.calls)

    config = spec(document(seen.xml))
    if installation.runs(seen.active_xml):
        # what the installer has besides goes with it
        return config, config
    return config, _settled(config, spec, document(seen.active_xml)) if seen.active_xml else None


def _settled(
    config: VirtualMachineSpec, spec: Callable[[etree._Element], VirtualMachineSpec], node: etree._Element
) -> VirtualMachineSpec:
    """The active configuration without what libvirt only spells out in it."""
    active = spec(node)
    update: dict[str, object] = {}
    if config.cpu and config.cpu.mode in ("host-model", "maximum") and _is_expanded(node):
        # to a custom model and its features when the domain starts
        update["cpu"] = config.cpu
    elif config.cpu and active.cpu:
        update["cpu"] = _as_defined(config.cpu, active.cpu)
    if config.iothreadids and not active.iothreadids:
        # it was started without any said of them: libvirt numbers them, and lists none
        thread = type(config.iothreadids[0])
        update["iothreadids"] = [thread(id=number + 1) for number in range(active.iothreads or 0)]
    # what changes on its own may be left out of what is read
    memory: int | None = active.memory
    if memory is None or memory > config.memory:
        # a guest that boots, or has no balloon driver, has not given the difference back: not an edit of anybody's
        update["memory"] = config.memory
    return active.model_copy(update=update)


def _as_defined(config: Cpu, active: Cpu) -> Cpu:
    """The CPU that runs, without what libvirt has added to it when it started: how it was checked, and features that
    QEMU gave the model besides."""
    named = {each.name for each in config.features}
    same = {"check": config.check, "fallback": config.fallback, "vendor": active.vendor if config.vendor else None}
    return active.model_copy(update={**same, "features": [each for each in active.features if each.name in named]})


def _is_expanded(node: etree._Element) -> bool:
    """Not one that still runs with the model that a manifest named before: libvirt writes the vendor, on x86."""
    custom = parse_path("cpu/@mode").text(node) == "custom"
    x86 = parse_path("os/type/@arch").text(node) in ("x86_64", "i686")
    return not (custom and x86) or node.find("cpu/vendor") is not None


def complete(resource: Resource, observed: Observed | None, project: str) -> VirtualMachineSpec:
    spec: VirtualMachineSpec = resource.spec
    seen: VirtualMachineSpec | None = observed.config if observed else _remembered(spec)
    update: dict[str, object] = {}
    if spec.state == "ignore":
        update["state"] = observed.config.state if observed else "stopped"
    if spec.state == "saved" and not (observed and observed.running):
        # what is off has no memory to save
        update["state"] = "stopped"
    for name in ("memory", "cpus"):
        # what may change by itself is not a measure for its limit
        ignored = observed is not None and name in resource.lifecycle.ignore_changes
        if limit := getattr(spec, f"max_{name}") or (None if ignored else getattr(spec, name)):
            update[f"max_{name}"] = limit
    owner = Owner(project, resource.id.name)
    for alias, b in DEVICES.bindings.items():
        if b.repeated and b.name in spec.model_fields_set:
            wanted, device = getattr(spec, b.name), DEVICES[alias][1]
            update[b.name] = b.alike([*device.completed(wanted, items(seen, b), owner)], wanted)
    if observed and any(disk.encryption for disk in spec.disks):
        update["disks"] = list(_beneath_overlays(update.get("disks", spec.disks), observed))
    return spec.model_copy(update=update)


def _beneath_overlays(disks: Any, observed: Observed) -> Iterator[Any]:
    """An overlay is not encrypted; how what it lies on is, its machine says where it says the chain."""
    nodes = {parse_path("target/@dev").text(node): node for node in document(observed.xml).iterfind("devices/disk")}
    for disk in disks:
        seen = item_named(observed.config.disks, disk.name)
        node = nodes.get(seen.target) if seen else None
        source = disk_source.read(node) if node is not None else None
        laid = disk.encryption and seen and source and source.path and source.path != seen.file
        yield owning(disk, *(disk.model_fields_set - {"encryption"})) if laid else disk


def _remembered(spec: VirtualMachineSpec) -> VirtualMachineSpec | None:
    """Devices that the remainder has a part of are as good as seen, as their fields say: nothing is defaulted."""
    if (rest := spec.rest) is None:
        return None
    seen = parse(VirtualMachineSpec, rest)
    return seen.model_copy(update={"disks": [disk for disk in spec.disks if item_named(seen.disks, disk.name)]})


def _refuse_what_snapshots_need(host: Host, spec: VirtualMachineSpec, observed: Observed | None) -> None:
    """A volume below the overlays of snapshots shall not come to be written to. Raises HostError."""
    seen = observed.config if observed else None
    known = {disk.volume for disk in (seen.disks if seen else [])}
    coming = [disk.volume for disk in spec.disks if disk.volume and not disk.read_only and disk.volume not in known]
    needed = frozen_lately(host) if coming else {}
    for volume in coming if needed else []:
        if owners := needed.get(host.lookup.volume_source(volume).path):
            raise HostError(
                f"volume {volume} is what {', '.join(sorted(owners))} preserves, and what was written since is in a "
                "file over it: a machine that writes to the volume would destroy both",
                "use that file instead (file: …; `kvmstate snapshot tree` shows it); only if nobody needs what it "
                "holds, delete the snapshot first",
            )


def _as_it_is(change: Change, text: str, host: Host) -> Change:
    """The change, without the sources of disks that are not in it: what these are by now, snapshots and backup programs
    decide too. Raises Changed when one that is in it is not what the plan has seen."""
    assert change.observed is not None
    source = {"volume", "file", "format"}
    touched = {str(f.path[1]) for f in change.fields if f.path[0] == "disks" and {*f.path[2:3]} <= source}
    if touched and text != change.observed.xml:
        host.forget()
        now = parse(VirtualMachineSpec, document(text), host.lookup)
        for name in touched:
            then, found = (item_named(each.disks, name) for each in (change.observed.config, now))
            if (then and (then.volume, then.file)) != (found and (found.volume, found.file)):
                raise Changed(change.id.name)
    spec: VirtualMachineSpec = change.spec
    if "disks" not in spec.model_fields_set:
        return change
    disks = [d if d.name in touched else owning(d, *(d.model_fields_set - source)) for d in spec.disks]
    return replace(change, spec=spec.model_copy(update={"disks": disks}))


def _refuse_unknown_formats(node: etree._Element) -> None:
    """A volume whose format nobody says is not given to a guest: its content may be what another guest has written."""
    for disk in node.iterfind("devices/disk"):
        source = disk_source.read(disk)
        if source and source.type in ("file", "block", "volume") and not parse_path("driver/@type").text(disk):
            if disk.get("device") == "cdrom":
                parse_path("driver/@type").set(disk, "raw")
                continue
            what = source.path or f"{source.pool}/{source.volume}"
            raise HostError(
                f"nobody says the format of {what}, and its content may be a guest's doing",
                "declare it as a Volume with its format, or write format: on the disk",
            )


def steps(change: Change, at: Context) -> list[Step]:
    name, spec, stop = change.id.name, change.spec, change.lifecycle.stop
    host, former = at.host, list[str]()
    restarts = True

    def find() -> Domain:
        return domains.find(host.connection, name)

    def define() -> None:
        nonlocal restarts
        _refuse_what_snapshots_need(host, spec, change.observed)
        before = domains.configuration(find()) if change.observed else None
        if before:
            former.append(before.text)
            now = _as_it_is(change, before.text, host)
            node = written(now, document(before.text), host.lookup, at.project)
        else:
            node = written(change, base(host, spec), host.lookup, at.project)
            if spec.install:
                installation.write(node, installation.Stage.TO_START)
        _refuse_unknown_formats(node)

        def put(node: etree._Element, validate: bool) -> None:
            if before:
                domains.redefine(before, to_text(settle(node)), validate)
            elif spec.remainder:
                rebuild(host, node, validate)
            else:
                domains.define(host.connection, to_text(settle(node)), validate)

        # only what people write by path can be unknown to libvirt; its schema takes longer than the rest of the call
        checked.define(node, [path for path, value in spec.xml.items() if value is not None], put)
        if change.restarts and (seen := observe(host, {name}).get(name)):
            restarts = restart.is_needed(change, seen)

    def shut_down(name: str = name) -> None:
        if restarts:
            domains.shutdown(domains.find(host.connection, name), stop.timeout, stop.on_timeout == "destroy")

    def save() -> None:
        # one that was renamed had to be shut down for it
        if (domain := find()).active:
            power.save(domain)

    if change.action is Action.DELETE:
        from kvmstate.snapshots.merge import merge, mergeable  # few plans delete machines

        drop, permit = change.lifecycle.deletion == "delete", at.gate.removal(change)

        def shut_down_to_go() -> None:
            # it would be off and stay, else
            mergeable(host, name)
            shut_down()

        return [
            *([simple("shut down", shut_down_to_go)] if change.running else []),
            # its volumes stay: they shall hold what it wrote last
            simple("merge external snapshots", lambda: merge(host, name)),
            simple("undefine", lambda: domains.undefine(find(), drop, permit)),
        ]
    todo = []
    if old := change.moved_from:
        if change.running:
            todo.append(simple("shut down", lambda: shut_down(old.name)))
        todo.append(simple(f"rename {old.name}", lambda: domains.rename(host.connection, old.name, name)))
    if change.observed is None or any(f.path[0] not in CALLS for f in change.fields):
        todo.append(simple("define", define))
    runs, wanted = change.running, spec.runs
    first: list[Step] = []
    if wanted and (spec.install or (change.observed and installation.read(change.observed.xml))):
        from kvmstate.kinds.virtual_machine import install  # few machines are installed

        first, ended = install.steps(change, at, find)
        todo += first
        if not ended:
            return todo
    if spec.autostart is not None:
        # not before it is installed: a host that boots would start it from its disk
        todo.append(simple("set autostart", lambda: domains.set_autostart(find(), spec.autostart)))
    start = simple("start", lambda: domains.start(find(), paused=spec.state == "paused"))
    awaited = [*_awaited(host, name, spec)]
    if first:
        return [*todo, start, *awaited]
    if wanted and change.observed and change.observed.saved_xml:
        # as it was when it was saved
        todo += [start, *awaited]
        runs = True
    stays = runs and wanted and not change.restarts
    if stays and (fields := restart.live_fields(change)):
        # loaded where something changes
        from kvmstate.kinds.virtual_machine import live

        todo += live.steps(host, change, fields)
    if runs and not stays:
        todo.append(simple("save its memory", save) if spec.state == "saved" else simple("shut down", shut_down))
    if wanted and not stays:
        if change.running:
            start = simple("start", lambda: restart.start(find, spec.state == "paused", former) if restarts else None)
        todo += [start, *awaited]
    elif stays and change.running and change.observed and spec.state != change.observed.config.state:
        switch = domains.suspend if spec.state == "paused" else domains.resume
        todo.append(simple("suspend" if spec.state == "paused" else "resume", lambda: switch(find())))
    return todo


def addresses_of(host: Host, seen: Observed) -> list[str]:
    connected = seen.active_xml is not None and agent.is_connected(seen.active_xml)
    return addresses(domains.find(host.connection, seen.id.name), ask=connected)


def _awaited(host: Host, name: str, spec: VirtualMachineSpec) -> Iterator[Step]:
    """Of a machine that was started."""
    if (check := spec.wait_for) and spec.state == "running":
        from kvmstate.host.listening import Listener
        from kvmstate.kind.probe import Probe  # loaded where something is waited for

        def wait() -> None:
            domain = domains.find(host.connection, name)
            probe = Probe(check, domain, "waitFor in its manifest").started()
            if not host.patient:
                # what a guest says is for who waits for it, and not for pages and notifications
                probe.wait()
                return
            with Listener(domain, host.is_local) as console:
                probe.wait(console)

        yield simple(f"wait for it, for {check.timeout} s at most", wait)


def adopted(change: Change, at: Context) -> list[Step]:
    mark = stamp_element(at.project, change.lifecycle)
    name = change.id.name
    return stamping(change, at.project, lambda: domains.set_metadata(domains.find(at.host.connection, name), *mark))


def judge(at: Scene) -> None:
    served.judge(at)
    replugged.judge(at)
    if any(
        change.action is Action.CREATE and change.id.kind == "domain" and change.spec.install
        for change in at.changes.values()
    ):
        from kvmstate.kinds.virtual_machine import install  # few machines are installed

        install.judge(at)


def judged(host: Host, change: Change, entry: Entry | None) -> Change:
    """What a revert that was cut off has left off, is not started on disks that nobody chose."""
    change = keep_what_was_written_elsewhere(host, keep_what_lies_above(host, change, entry), entry)
    change, seen = refuse_disk_weights(host, keep_layers_elsewhere(host, change)), change.observed
    if seen and installation.read(seen.xml):
        from kvmstate.kinds.virtual_machine import install  # few machines are installed

        change = install.judged(host, change)
    if seen is None or seen.running or not (cut_off := underway.read(seen.xml)):
        return change
    error = cut_off.cut_off(change.id.name)
    if change.action in (Action.NOOP, Action.FORGET):
        return replace(change, reason=error.message, hint=error.hint)
    return replace(change, blocked=error.message, hint=error.hint)


def followed(resource: Resource, observed: Observed | None, origins: Mapping[ResourceId, ResourceId]) -> Resource:
    """Interfaces that are called after a network stay the same ones when that is renamed."""
    spec: VirtualMachineSpec = resource.spec
    if observed is None:
        return resource
    onward = {old.name: new.name for new, old in origins.items()}
    seen = [
        nic.model_copy(update={"network": onward[nic.network]}) if nic.network in onward else nic
        for nic in observed.config.interfaces
    ]
    kept = {nic.name for nic in seen if nic.network in onward.values()}
    named = [
        wanted if nic.name not in kept else wanted.model_copy(update={"name": nic.name})
        for wanted, nic in zip(spec.interfaces, named_interfaces(spec.interfaces, seen), strict=True)
    ]
    return replace(resource, spec=spec.model_copy(update={"interfaces": named}))


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    adopted,
    secrets,
    taken=lambda host, uuid: domains.has(host.connection, uuid),
    checked=judged,
    judge=judge,
    followed=followed,
    removed=removed,
    begun=base,
    obvious=obvious,
    addresses=addresses_of,
)
