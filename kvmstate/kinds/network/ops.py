"""Networks on a host: observe, and make changes real."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, forwards, networks
from kvmstate.host.clients import clients
from kvmstate.host.objects import Network
from kvmstate.kind import Context, Ops
from kvmstate.kind.compose import written
from kvmstate.kind.stamps import stamp, stamping
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.network import live
from kvmstate.kinds.network.restart import Comeback, judge, plug_in
from kvmstate.kinds.network.spec import NetworkSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text

# A network without a bridge name has none in XML until libvirt picks one: nothing to add.
BASE = "<network><name/></network>"
VLANS_OF_BRIDGES = (11, 0, 0)
WORDS = (9, 7, 0)
PORTS = "portForwards"
# how many machines are on it
_VOLATILE = re.compile(r" connections='\d+'")


def names(host: Host) -> set[str]:
    return {each.name for each in networks.all_networks(host.connection)}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    def look(network: Network) -> Observed:
        running = network.active
        active_xml = networks.xml(network, inactive=False) if running else None
        calls = {"active": running, "autostart": network.autostart}
        id_ = ResourceId("network", network.name)
        kept = not running or network.persistent
        return Observed(id_, network.uuid, networks.xml(network), active_xml, calls, _read, _VOLATILE, kept)

    return {seen.id.name: seen for seen in host.each(look, networks.named(host.connection, names))}


def _read(seen: Observed) -> tuple[NetworkSpec, NetworkSpec | None]:
    def spec(text: str) -> NetworkSpec:
        return parse(NetworkSpec, document(text)).model_copy(update=seen.calls)

    config = spec(seen.xml)
    if not seen.active_xml:
        return config, None
    # of what is for people, and for kvmstate, what is defined holds at once
    update = {name: getattr(config, name) for name in ("title", "description", "port_forwards")}
    return config, spec(seen.active_xml).model_copy(update=update)


def complete(resource: Resource, observed: Observed | None, project: str) -> NetworkSpec:
    spec: NetworkSpec = resource.spec
    return spec


def checked(host: Host, change: Change, entry: Entry | None) -> Change:
    """What only a newer libvirt can, and what more it takes to open ports."""
    spec = change.spec
    if change.blocked or change.action not in (Action.CREATE, Action.UPDATE):
        return change
    if _opens(change):
        change = change.saying(*_told_of_ports(host))
    if (spec.title or spec.description) and host.library_version < WORDS:
        why = "the host's libvirt knows no title and description of networks; from 9.7 on it does"
        return replace(change, blocked=why, hint="leave them out, or write them as comments in the manifest")
    if not spec.vlan:
        return change
    of_bridge = spec.forward is not None and spec.forward.mode == "bridge"
    switched = spec.virtual_port is not None and spec.virtual_port.type == "openvswitch"
    if of_bridge and not switched and host.library_version < VLANS_OF_BRIDGES:
        why = "the host's libvirt has VLANs of Open vSwitch only; of other bridges from 11.0 on"
        return replace(change, blocked=why, hint="leave vlan out, or say virtualPort: {type: openvswitch}")
    return change


def _opens(change: Change) -> bool:
    """Whether ports of the host are opened or closed by this change."""
    return any(field.path[0] == PORTS for field in change.fields) or bool(change.spec.port_forwards and change.restarts)


def _open(host: Host) -> Step:
    return simple("open and close ports of the host", lambda: forwards.refresh(host))


def settled(host: Host, resources: Sequence[Resource]) -> None:
    """Machines may have been started after their network was changed, and libvirt need not have the hooks."""
    if any(resource.spec.port_forwards for resource in resources) and forwards.may(host):
        forwards.refresh(host)


def _told_of_ports(host: Host) -> Iterator[str]:
    if not forwards.may(host):
        yield "its ports are opened by `kvmstate host forwards` on the host, as root"
    if not forwards.keeps(host):
        where = " if that is not so yet" if forwards.keeps(host) is None else ""
        yield f"`kvmstate service forwards install` there keeps them open after a start{where}"


def portable(observed: Observed, host: Host) -> tuple[NetworkSpec, etree._Element]:
    if not observed.persistent:
        raise HostError("it is transient: it has no configuration that would stay", "make it persistent with `virsh`")
    return observed.config, document(observed.xml)


def steps(change: Change, at: Context) -> list[Step]:
    name, spec, host = change.id.name, change.spec, at.host
    if change.action is Action.DELETE:
        permit = at.gate.removal(change)
        gone = [simple("stop and undefine", lambda: networks.undefine(_find(host, name), permit))]
        seen = change.observed.config if change.observed else None
        return [*gone, _open(host)] if seen and seen.port_forwards and forwards.may(host) else gone

    def define() -> None:
        if change.observed is None:
            node = document(spec.remainder or BASE)
            networks.define(host.connection, to_text(written(change, node, host.lookup, at.project)))
            return
        before = networks.configuration(_find(host, name))
        networks.redefine(before, to_text(written(change, document(before.text), host.lookup, at.project)))

    def start() -> None:
        if spec.bridge and spec.bridge.name:
            networks.start(_find(host, name))
        else:
            networks.start_over_taken_bridge(host.connection, name)

    restarts = change.running and change.restarts
    guarded = Comeback(change, at).guarded if restarts else lambda run: run
    todo = []

    def step(describe: str, run: Callable[[], object]) -> None:
        todo.append(simple(describe, guarded(run)))

    if old := change.moved_from:
        permit = at.gate.renaming(change)
        step(f"rename {old.name}", lambda: networks.rename(host.connection, old.name, name, permit))
    if change.observed is None or any(f.path[0] not in ("active", "autostart") for f in change.fields):
        step("define", define)
    if spec.autostart is not None:
        step("set autostart", lambda: networks.set_autostart(_find(host, name), spec.autostart))
    if restarts or (change.running and not spec.active):
        step("stop", lambda: networks.stop(_find(host, name)))
    elif change.running:
        todo += live.steps(host, change)
    if spec.active and (restarts or not change.running):
        step("start", start)
    if spec.active and (restarts or change.plugs_in):
        todo.append(simple("plug running machines in again", lambda: plug_in(change, host)))
    if _opens(change) and forwards.may(host):
        todo.append(_open(host))
    return todo


def adopted(change: Change, at: Context) -> list[Step]:
    def mark() -> None:
        # libvirt has a call for it since 9.7 only; a network that runs goes on as it is
        before = networks.configuration(_find(at.host, change.id.name))
        node = document(before.text)
        stamp(node, at.project, change.lifecycle)
        networks.redefine(before, to_text(node))

    return stamping(change, at.project, mark)


def _find(host: Host, name: str) -> Network:
    return networks.find(host.connection, name)


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    adopted,
    users=lambda host, change: host.uses.of_network(change.id.name),
    checked=checked,
    judge=judge,
    clients=lambda host, seen: clients(host, _find(host, seen.id.name)),
    begun=lambda host, spec: document(spec.remainder or BASE),
    settled=settled,
)
