"""What of a network is changed while it runs, guests keeping their connection: virNetworkUpdate's table.

SECTIONS has a row for each LIVE list (a test holds the two together). What runs is made what was just defined: what
goes, goes first, as libvirt refuses two with one MAC, name or address, and finds the one to modify by what it is to
have. It has no call for the rest of a network: see `kvmstate.kinds.network.restart`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

from lxml import etree

from kvmstate.host import Host, networks, plugs
from kvmstate.host.forwards import passing
from kvmstate.host.objects import Network
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.network.addresses import Ip
from kvmstate.model.change import Change, Key
from kvmstate.xmlbind import document, meaning, parse, to_text
from kvmstate.xmlbind.path import parse_path


class Section(NamedTuple):
    """`name` is libvirt's, `path` where its elements are: below an <ip>, where it is `of_ip`. One that `alters` is
    changed where it is; all others are taken out and put in again."""

    name: str
    path: str
    of_ip: bool = False
    alters: bool = False


SECTIONS = {
    "ips.dhcp.ranges": Section("IP_DHCP_RANGE", "dhcp/range", of_ip=True),
    "ips.dhcp.hosts": Section("IP_DHCP_HOST", "dhcp/host", of_ip=True),
    "dns.hosts": Section("DNS_HOST", "dns/host"),
    "dns.txt": Section("DNS_TXT", "dns/txt"),
    "dns.srv": Section("DNS_SRV", "dns/srv"),
    "forward.interfaces": Section("FORWARD_INTERFACE", "forward/interface"),
    "portGroups": Section("PORTGROUP", "portgroup", alters=True),
}


def lists_of(path: Sequence[str]) -> list[str]:
    """The rows that a changed field belongs to: of a section that comes or goes, those below it."""
    field = ".".join(part for part in path if not isinstance(part, Key))
    return [name for name in SECTIONS if f"{field}.".startswith(f"{name}.") or name.startswith(f"{field}.")]


def steps(host: Host, change: Change) -> list[Step]:
    """For the LIVE fields of a change, once it is defined."""
    touched = dict.fromkeys(
        # of what is told apart by addresses, each address has its own
        (name, field.path[1] if SECTIONS[name].of_ip else "")
        for field in change.live
        for name in lists_of(field.path)
    )
    return [
        simple(
            f"{verb} the running network: {name}{f' of {address}' if address else ''}",
            partial(_update, host, change.id.name, SECTIONS[name], address, comes),
        )
        for comes, verb in ((False, "take out of"), (True, "put into"))
        for name, address in touched
    ]


def _update(host: Host, name: str, section: Section, address: str, comes: bool) -> None:
    network = networks.find(host.connection, name)
    text = networks.xml(network, inactive=False)
    # libvirt writes all rules of the firewall again with what is below an <ip>
    with passing(host, plugs.bridge(text)) if section.of_ip else nullcontext():
        _change(network, text, section, address, comes)


def _change(network: Network, text: str, section: Section, address: str, comes: bool) -> None:
    index, running = _found(text, section, address)
    _, wanted = _found(networks.xml(network), section, address)
    known = {each.get("name") for each in running} & {each.get("name") for each in wanted} if section.alters else set()
    if not comes:
        for each in _beyond(running, wanted):
            if each.get("name") not in known:
                networks.update(network, networks.DELETE, section.name, to_text(each), index)
        return
    for each in _beyond(wanted, running):
        command = networks.MODIFY if each.get("name") in known else networks.ADD
        networks.update(network, command, section.name, to_text(each), index)


def _beyond(some: list[etree._Element], others: list[etree._Element]) -> list[etree._Element]:
    """Those that have no equal among others."""
    there = [meaning(each) for each in others]
    return [each for each in some if meaning(each) not in there]


def _found(text: str, section: Section, address: str) -> tuple[int, list[etree._Element]]:
    """The number of the <ip> that they are below, or -1; and the elements, without how often each is in use."""
    root, index = document(text), -1
    if section.of_ip:
        ips = root.findall("ip")
        index = [parse(Ip, node).address for node in ips].index(address)
        root = ips[index]
    found = [copy.deepcopy(each) for each in parse_path(section.path).find_all(root)]
    for each in found:
        each.attrib.pop("connections", "")
    return index, found
