"""Networks on a host: observe, and make changes real. Fixed leases change while the network runs; see LIVE."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from lxml import etree

from kvmstate.host import Host, networks
from kvmstate.kind import Step, simple, written
from kvmstate.kinds.network.spec import NetworkSpec
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, patch, to_text

# A network without a bridge name has none in XML until libvirt picks one: nothing to add.
BASE = "<network><name/></network>"


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    def look(network: Any) -> Observed:
        running = bool(network.isActive())
        active_xml = networks.xml(network, inactive=False) if running else None
        calls = {"active": running, "autostart": bool(network.autostart())}
        id_ = ResourceId("network", network.name())
        return Observed(id_, network.UUIDString(), networks.xml(network), active_xml, calls, _read)

    wanted = [network for network in networks.all_networks(host.connection) if network.name() in names]
    return {seen.id.name: seen for seen in host.each(look, wanted)}


def _read(seen: Observed) -> tuple[NetworkSpec, NetworkSpec | None]:
    def spec(text: str) -> NetworkSpec:
        return parse(NetworkSpec, document(text)).model_copy(update=seen.calls)

    return spec(seen.xml), spec(seen.active_xml) if seen.active_xml else None


def complete(resource: Resource, observed: Observed | None, project: str) -> NetworkSpec:
    spec: NetworkSpec = resource.spec
    return spec.model_copy(update={"active": spec.active})


def steps(change: Change, host: Host, project: str) -> list[Step]:
    name, spec = change.id.name, change.spec
    if change.action is Action.DELETE:
        return [simple("stop and undefine", lambda: networks.undefine(_find(host, name)))]

    def define() -> None:
        node = document(networks.xml(_find(host, name)) if change.observed else BASE)
        networks.define(host.connection, to_text(written(change, node, host.lookup, project)))

    todo = []
    if change.observed is None or any(f.path[0] not in ("active", "autostart") for f in change.fields):
        todo.append(simple("define", define))
    if spec.autostart is not None:
        todo.append(simple("set autostart", lambda: networks.set_autostart(_find(host, name), spec.autostart)))
    if change.running and (change.restarts or not spec.active):
        todo.append(simple("stop", lambda: networks.stop(_find(host, name))))
    elif change.running:
        todo += [_live(host, change, f) for f in change.live if f.path[0] not in ("active", "autostart")]
    if spec.active and (change.restarts or not change.running):
        todo.append(simple("start", lambda: networks.start(_find(host, name))))
    return todo


def _find(host: Host, name: str) -> Any:
    return networks.find(host.connection, name)


def _live(host: Host, change: Change, field: FieldChange) -> Step:
    """LIVE: fixed leases, `ips.ADDRESS.dhcp.hosts.IP` whole or one field of it."""
    _, address, _, _, ip, *inner = field.path

    def update() -> None:
        assert change.observed is not None
        assert change.observed.active is not None
        index = [i.address for i in change.observed.active.ips].index(address)
        wanted = [h for i in change.spec.ips if i.address == address for h in i.dhcp.hosts if h.ip == ip]
        command = networks.MODIFY if inner else networks.ADD if wanted else networks.DELETE
        host_xml = to_text(patch(etree.Element("host"), (wanted or [field.old])[0], host.lookup))
        networks.update_dhcp_host(_find(host, change.id.name), command, host_xml, index)

    return simple(f"update fixed lease {ip} of the running network", update)
