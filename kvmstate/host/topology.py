"""How a host's machines reach each other and the world: networks, bridges, devices, and who is plugged in where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lxml import etree

from kvmstate.host import domains, networks
from kvmstate.host.addresses import is_local
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.host.kernel_links import TAPS, Link, kernel_links
from kvmstate.host.objects import Domain, Network
from kvmstate.host.plugs import makes_bridge
from kvmstate.xmlbind import document


class Node(NamedTuple):
    """`kind` is host, device, bridge, network or machine."""

    kind: str
    name: str


@dataclass(frozen=True)
class Topology:
    """What of a host is drawn: `nodes` with a few words on each, `idle` those that do not run, and `edges` from
    machines towards the host, with a few words as well."""

    nodes: dict[Node, str]
    idle: frozenset[Node]
    edges: tuple[tuple[Node, Node, str], ...]


def hostname(connection: Any) -> str:
    """Ask the host for its name. Raises HostError."""
    with faults():
        return str(connection.getHostname())


def topology(host: Host) -> Topology:
    """Look at all networks and machines of a host. Raises HostError."""
    here = Node("host", hostname(host.connection))
    found = _Drawing(here, {each.name: each for each in kernel_links(host) or ()})
    for network, text in host.each(_xml_of_network, networks.all_networks(host.connection)):
        found.network(network, document(text))
    for domain, text in host.each(_xml_of_machine, domains.all_domains(host.connection)):
        found.machine(domain, document(text))
    found.uplinks()
    # a name may stand for one device only
    return Topology(dict(sorted(found.nodes.items())), frozenset(found.idle), tuple(dict.fromkeys(found.edges)))


def _xml_of_network(network: Network) -> tuple[Network, str]:
    return network, networks.xml(network, inactive=not network.active)


def _xml_of_machine(domain: Domain) -> tuple[Domain, str]:
    return domain, domains.xml(domain, inactive=not domain.active)


class _Drawing:
    def __init__(self, here: Node, links: dict[str, Link]) -> None:
        self._here, self._links = here, links
        self.nodes: dict[Node, str] = {here: ""}
        self.idle: set[Node] = set()
        self.edges: list[tuple[Node, Node, str]] = []

    def network(self, network: Network, root: etree._Element) -> None:
        forward = root.find("forward")
        mode = forward.get("mode", "nat") if forward is not None else "isolated"
        node = Node("network", network.name)
        self.nodes[node] = mode
        if not network.active:
            self.idle.add(node)
        bridge = root.find("bridge")
        name = bridge.get("name", "") if bridge is not None else ""
        own = makes_bridge(etree.tostring(root, encoding="unicode"))
        devices = [each.get("dev", "") for path in ("interface", "pf") for each in root.iterfind(f"forward/{path}")]
        if forward is not None and not devices:
            devices = [forward.get("dev", "")]
        if not name:
            for device in filter(None, devices):
                self._join(node, self._device(device))
            return
        at = self._bridge(name, ", ".join(_prefixes(root)) if own else "")
        self._join(node, at)
        if own and mode != "isolated":
            for device in devices or [""]:
                self._join(at, self._device(device) if device else self._here, "NAT" if mode == "nat" else "routed")
        elif own and root.find("ip") is not None:
            self._join(at, self._here, "the host alone")

    def machine(self, domain: Domain, root: etree._Element) -> None:
        node = Node("machine", domain.name)
        self.nodes[node] = ""
        if not domain.active:
            self.idle.add(node)
        for nic in root.iterfind("devices/interface"):
            source, target = nic.find("source"), nic.find("target")
            said: Any = {} if source is None else source.attrib
            label = target.get("dev", "") if target is not None and domain.active else ""
            if name := said.get("network"):
                to = Node("network", name)
                self.nodes.setdefault(to, "not there")
            elif name := said.get("bridge"):
                to = self._bridge(name)
            elif (name := said.get("dev")) and nic.get("type") == "direct":
                to = self._device(name)
            elif nic.get("type") in ("user", "hostdev"):
                to, label = self._here, str(nic.get("type"))
            else:
                continue
            self._join(node, to, label)

    def uplinks(self) -> None:
        """The host's devices that are in the bridges, and what these are made of."""
        drawn: set[Node] = set()
        while todo := [node for node in self.nodes if node.kind in ("bridge", "device") and node not in drawn]:
            for node in todo:
                drawn.add(node)
                self._uplink(node, self._links.get(node.name))

    def _uplink(self, node: Node, link: Link | None) -> None:
        below = [each.name for each in self._links.values() if each.master == node.name and each.kind not in TAPS]
        below += [link.over] if link and link.over in self._links else []
        for name in below:
            self._join(node, self._device(name), f"VLAN {link.vlan}" if link and link.vlan is not None else "")
        ends_here = not below if node.kind == "device" else link and link.addresses
        if ends_here and all(edge[0] != node for edge in self.edges):
            self._join(node, self._here)

    def _bridge(self, name: str, words: str = "") -> Node:
        node = Node("bridge", name)
        link = self._links.get(name)
        self.nodes[node] = words or self.nodes.get(node, "") or ", ".join(_reachable(link))
        return node

    def _device(self, name: str) -> Node:
        link = self._links.get(name)
        if link and link.kind == "bridge":
            return self._bridge(name)
        node = Node("device", name)
        words = link.kind if link and link.kind in ("bond", "vlan") else ""
        self.nodes[node] = words or ", ".join(_reachable(link))
        return node

    def _join(self, one: Node, other: Node, label: str = "") -> None:
        self.edges.append((one, other, label))


def _prefixes(root: etree._Element) -> Iterator[str]:
    for ip in root.iterfind("ip"):
        yield f"{ip.get('address', '')}/{ip.get('prefix') or ip.get('netmask') or ''}".rstrip("/")


def _reachable(link: Link | None) -> list[str]:
    return [each for each in (link.addresses if link else ()) if not is_local(each.partition("/")[0])]
