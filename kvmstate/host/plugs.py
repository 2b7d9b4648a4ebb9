"""Interfaces of running machines, and the bridge that libvirt makes again with every start of a network.

The taps of running machines stay behind without a bridge then, until each is plugged in again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import libvirt
from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host import domains, networks
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind import document, to_text
from kvmstate.xmlbind.path import parse_path

# Of all others the bridge is the host's own, or there is none: they stay as they are when their network restarts.
_MAKES_BRIDGE = (None, "nat", "route", "open")
# Types of an interface that is plugged into a bridge
_BRIDGED = ("network", "bridge")


@dataclass(frozen=True)
class Plug:
    """An interface of a running machine; `device` is its XML, as libvirt shows it."""

    machine: str
    device: str

    @property
    def follows(self) -> bool:
        """Whether it can be plugged in again. A macvtap device goes with the bridge below it, for good."""
        node = document(self.device)
        return node.get("type") != "direct" and _source(node).get("dev") is None


def makes_bridge(xml: str) -> bool:
    """Whether the bridge of this network is libvirt's, made at its start."""
    return _mode(document(xml)) in _MAKES_BRIDGE


def _mode(network: etree._Element) -> str | None:
    forward = network.find("forward")
    return forward.get("mode", "nat") if forward is not None else None


def has_ports(network: etree._Element) -> bool:
    """Whether who is plugged into this network is a port of a Linux bridge."""
    mode = _mode(network)
    bridged = mode in _MAKES_BRIDGE or (mode == "bridge" and network.find("bridge") is not None)
    return bridged and network.find("virtualport") is None


def is_port(device: etree._Element) -> bool:
    """Whether this interface of a running machine is one."""
    return device.get("type") in _BRIDGED and device.find("virtualport") is None


def bridge(xml: str) -> str:
    """The name of a network's bridge, or an empty string."""
    node = document(xml).find("bridge")
    return node.get("name", "") if node is not None else ""


def vlan_given(domain: Domain, device: etree._Element) -> etree._Element | None:
    """The VLANs of an interface that says none itself: those of its port group, or of its network."""
    source = _source(device)
    if (name := source.get("network")) is None:
        return None
    root = document(networks.xml(networks.find(domain.raw.connect(), name), inactive=False))
    group = source.get("portgroup")
    groups = [
        each
        for each in root.iterfind("portgroup")
        if (each.get("name") == group if group else each.get("default") == "yes")
    ]
    found = [vlan for each in (*groups, root) if (vlan := each.find("vlan")) is not None]
    return found[0] if found else None


class Running:
    """The interfaces of all running machines, own and foreign, as of the first question."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @cached_property
    def _plugs(self) -> list[Plug]:
        def look(domain: Domain) -> list[Plug]:
            nodes = document(domains.xml(domain, inactive=False)).iterfind("devices/interface")
            return [Plug(domain.name, to_text(node)) for node in nodes]

        running = domains.all_domains(self._host.connection, libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return [plug for plugs in self._host.each(look, running) for plug in plugs]

    def on(self, names: Collection[str], bridges: Collection[str]) -> list[Plug]:
        """Those that end on a network of these names, or on one of these bridges, or were left on the way to them."""
        bridges = {*bridges, *map(networks.way_to, names)}
        return [plug for plug in self._plugs if _ends_on(document(plug.device), names, bridges)]


def naming(host: Host, name: str) -> list[str]:
    """The machines, running or not, whose configuration names this network."""

    def look(domain: Domain) -> str:
        nodes = document(domains.xml(domain)).iterfind("devices/interface")
        return domain.name if any(_source(node).get("network") == name for node in nodes) else ""

    return sorted(filter(None, host.each(look, domains.all_domains(host.connection))))


def _ends_on(node: etree._Element, names: Collection[str], bridges: Collection[str]) -> bool:
    if node.get("type") not in (*_BRIDGED, "direct"):
        return False
    source = _source(node)
    return source.get("network") in names or source.get("bridge") in bridges or source.get("dev") in bridges


def _source(node: etree._Element) -> etree._Element:
    found = node.find("source")
    return found if found is not None else etree.Element("source")


def unplugged(host: Host, name: str, running: Running, begun: bool) -> list[Plug]:
    """Those of running machines that end on the running network and may not be in its bridge.

    libvirt knows a port for each interface that came by the network's name, and forgets it when the network stops. Of
    one that came by the bridge's nothing tells: it counts with the others, or where a change was `begun`.
    """
    try:
        network = networks.find(host.connection, name)
        text = networks.xml(network, inactive=False)
    except NotFound:
        return []
    if not makes_bridge(text):
        return []
    try:
        with faults():
            ports = {port.UUIDString() for port in network.raw.listAllPorts(0)}
    except ConnectionFailed:
        raise
    except HostError:
        # before libvirt 5.5, and the test driver
        return []
    found = [plug for plug in running.on({name}, {bridge(text)}) if plug.follows]
    known = [_source(document(plug.device)) for plug in found]
    off = any(port and port not in ports for port in (source.get("portid") for source in known))
    return found if begun or off or any(source.get("bridge") == networks.way_to(name) for source in known) else []


def plug_in(host: Host, name: str, plugs: Iterable[Plug]) -> None:
    """Into the bridge of the running network, also under a name that it has by now. A machine that does not take it
    holds up no other. Raises HostError for those.

    libvirt does nothing for an interface whose bridge is called as before (seen with 11.3; 9.0 did for one that was
    spelled otherwise): each goes by way of a bridge that is there for that alone, and gone before it returns.
    """
    text = networks.xml(networks.find(host.connection, name), inactive=False)
    to = bridge(text)
    running = []
    for plug in plugs if makes_bridge(text) else ():
        with suppress(NotFound):
            domain = domains.find(host.connection, plug.machine)
            if domains.state(domain) != "stopped":
                running.append((domain, plug))
    if not running:
        return
    exist = {network.name for network in networks.all_networks(host.connection)}
    failed: dict[str, HostError] = {}

    def update(domain: Domain, node: etree._Element) -> bool:
        try:
            domains.update_device(domain, to_text(node))
            return True
        except ConnectionFailed:
            raise
        except NotFound:
            return False
        except HostError as error:
            # the test driver has no bridges
            if error.code != libvirt.VIR_ERR_NO_SUPPORT:
                failed[domain.name] = error
            return False

    with networks.way(host.connection, name) as way:
        out = [(domain, plug) for domain, plug in running if update(domain, _over(plug, way))]
    for domain, plug in out:
        update(domain, _followed(plug, name, to, exist, _own_port(domain, plug)))
    if failed:
        told = "; ".join(f"{machine}: {error.message}" for machine, error in failed.items())
        raise HostError(
            f"running machines are cut off from network {name}: {told}",
            "the next apply tries again; what also helps is to stop and start these machines",
        )


def _over(plug: Plug, way: str) -> etree._Element:
    """The interface, on another bridge."""
    node = document(plug.device)
    node.set("type", "bridge")
    source = _source(node)
    source.attrib.clear()
    source.set("bridge", way)
    for inbound in node.iterfind("bandwidth/inbound"):
        # what is promised of a network's bandwidth, is of networks only
        inbound.attrib.pop("floor", "")
    return node


def _own_port(domain: Domain, plug: Plug) -> etree._Element | None:
    """What an interface says itself of its port; what runs shows that of its network, as it was, as well."""
    mac = parse_path("mac/@address").text(document(plug.device))
    for node in document(domains.xml(domain)).iterfind("devices/interface"):
        if parse_path("mac/@address").text(node) == mac:
            return node.find("port")
    return None


def _followed(plug: Plug, name: str, to: str, exist: Collection[str], port: etree._Element | None) -> etree._Element:
    """The interface as it is to be: what it was plugged into may have another name by now, and says of its port what
    it says now."""
    node = document(plug.device)
    source = _source(node)
    if source.get("network") is None:
        source.set("bridge", to)
        return node
    # of a network with the host's bridge libvirt shows that of what runs
    node.set("type", "network")
    for old in node.findall("port"):
        node.remove(old)
    if port is not None:
        node.append(port)
    for known in ("portid", "bridge"):
        source.attrib.pop(known, "")
    if source.get("network") not in exist:
        source.set("network", name)
    return node
