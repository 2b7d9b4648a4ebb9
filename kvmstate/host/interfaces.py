"""The links of a host, as libvirt and its kernel know them, and who uses each."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import libvirt
from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import domains, networks
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.host.kernel_links import Link, kernel_links
from kvmstate.xmlbind import document


@dataclass(frozen=True)
class Used:
    """A link, and who uses it: networks and machines, in words. `defined` says whether libvirt's interface driver has a
    configuration of it."""

    link: Link
    users: tuple[str, ...]
    defined: bool


def interfaces(host: Host) -> list[Used]:
    """All links, by their names: the kernel's where kvmstate runs on the host, else what libvirt tells of them. Raises
    HostError."""
    defined = _defined(host.connection)
    found = {link.name: link for link in kernel_links(host) or (*_devices(host.connection), *defined)}
    for link in defined:
        # one that is down is in no kernel
        found.setdefault(link.name, link)
    users, names = _users(host), {link.name for link in defined}
    return [Used(link, tuple(sorted(users[name])), name in names) for name, link in sorted(found.items())]


def _defined(connection: Any) -> list[Link]:
    """Those of libvirt's interface driver; none where it has none. What is in a bridge or bond is told with that."""
    try:
        with faults():
            texts = [each.XMLDesc(0) for each in connection.listAllInterfaces(0)]
    except ConnectionFailed:
        raise
    except HostError:
        return []
    found: dict[str, Link] = {}
    for node in map(document, texts):
        link = read(node)
        found[link.name] = replace(link, master=found[link.name].master) if link.name in found else link
        for inner in node.iterfind(f"{link.kind}/interface") if link.kind in ("bridge", "bond") else ():
            there = found.get(inner.get("name", "")) or read(inner)
            found[there.name] = replace(there, master=link.name)
    return list(found.values())


def read(node: etree._Element) -> Link:
    """What libvirt's XML of an interface says: https://libvirt.org/schemas/interface.rng"""
    mac, mtu, vlan, state = (node.find(path) for path in ("mac", "mtu", "vlan", "link"))
    over = vlan.find("interface") if vlan is not None else None
    addresses = [f"{ip.get('address')}/{ip.get('prefix')}" for ip in node.iterfind("protocol/ip")]
    return Link(
        node.get("name", ""),
        node.get("type", "ethernet"),
        "" if mac is None else mac.get("address", ""),
        state is None or state.get("state") == "up",
        0 if mtu is None else int(mtu.get("size", "0")),
        tuple(addresses),
        over="" if over is None else over.get("name", ""),
        vlan=None if vlan is None else int(vlan.get("tag", "0")),
    )


def _devices(connection: Any) -> list[Link]:
    """The network devices that libvirt's node device driver tells of; none where it has none."""
    found = []
    with suppress(HostError), faults():
        for each in connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET):
            net = document(each.XMLDesc(0)).find("capability[@type='net']")
            if net is not None and (name := net.findtext("interface")):
                state = net.find("link")
                up = state is not None and state.get("state") == "up"
                found.append(Link(name, "ethernet", net.findtext("address") or "", up, 0))
    return found


def _users(host: Host) -> dict[str, set[str]]:
    users: dict[str, set[str]] = defaultdict(set)
    for network in networks.all_networks(host.connection):
        root = document(networks.xml(network, inactive=not network.active))
        forward = root.find("forward")
        nodes = [*root.iterfind("bridge"), *root.iterfind("forward/interface"), *root.iterfind("forward/pf")]
        nodes += [] if forward is None else [forward]
        for node in nodes:
            users[node.get("name") or node.get("dev") or ""].add(f"network {network.name}")
    for domain in domains.all_domains(host.connection):
        root = document(domains.xml(domain, inactive=not domain.active))
        for nic in root.iterfind("devices/interface"):
            source, target = nic.find("source"), nic.find("target")
            said: Any = {} if source is None else source.attrib
            own = "" if target is None or not domain.active else target.get("dev", "")
            for name in (said.get("bridge") if not said.get("network") else "", said.get("dev"), own):
                users[name or ""].add(f"virtual machine {domain.name}")
    return users
