"""Virtual networks: https://libvirt.org/html/libvirt-libvirt-network.raw.html"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from errno import EEXIST
from hashlib import sha256
from typing import Any

import libvirt
from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host.faults import described, faults
from kvmstate.host.objects import Network
from kvmstate.host.permit import Configuration, Permit
from kvmstate.xmlbind import document, to_text
from kvmstate.xmlbind.path import parse_path

ADD = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
MODIFY = libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY
DELETE = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE
# What machines are plugged in by way of, see `way`; a run that was killed may leave one
WAY = "kvmstate-way-"
_DEFINING = threading.Lock()
# So many are looked up one by one; for more it is quicker to list all
FEW = 5


def all_networks(connection: Any) -> list[Network]:
    with faults():
        return [each for raw in connection.listAllNetworks(0) if not (each := Network(raw)).name.startswith(WAY)]


def xml(network: Network, inactive: bool = True) -> str:
    return described(network.raw, libvirt.VIR_NETWORK_XML_INACTIVE if inactive else 0)


def find(connection: Any, name: str) -> Network:
    """Find a network by its name. Raises NotFound."""
    with faults():
        return Network(connection.networkLookupByName(name))


def by_uuid(connection: Any, uuid: str) -> Network:
    """Find a network by its UUID. Raises NotFound."""
    with faults():
        return Network(connection.networkLookupByUUIDString(uuid))


def is_active(network: Network) -> bool:
    with faults():
        return bool(network.raw.isActive())


def named(connection: Any, names: Collection[str]) -> list[Network]:
    """Those of these names that exist."""
    if len(names) > FEW:
        return [network for network in all_networks(connection) if network.name in names]
    found = []
    for name in names:
        with suppress(NotFound):
            found.append(find(connection, name))
    return found


def exists(connection: Any, name: str) -> bool:
    try:
        return bool(find(connection, name))
    except NotFound:
        return False


def configuration(network: Network) -> Configuration[Network]:
    """What is defined, to be edited for `redefine`."""
    return Configuration(network, xml(network), xml)


def redefine(before: Configuration[Network], text: str) -> Network:
    """Define a network otherwise. Raises Changed when it is no longer what `before` says, of which `text` was made."""
    before.check()
    return define(before.thing.connection, text)


def define(connection: Any, text: str) -> Network:
    """Define a network that is not there: libvirt refuses the name of one that is, with another UUID."""
    # two at once may be given the same name for their bridges
    with _DEFINING, faults():
        return Network(connection.networkDefineXML(text))


def start(network: Network) -> None:
    with faults():
        if not network.raw.isActive():
            network.raw.create()


def start_over_taken_bridge(connection: Any, name: str) -> None:
    """Start; where the name that libvirt once chose for the bridge is taken, have it choose another.

    A libvirtd that is killed while it starts a network leaves the device behind, and the next one does not know it.
    """
    try:
        start(find(connection, name))
    except HostError as error:
        if error.errno != EEXIST:
            raise
        before = configuration(find(connection, name))
        node = document(before.text)
        parse_path("bridge/@name").remove(node)
        start(redefine(before, to_text(node)))


def stop(network: Network) -> None:
    """libvirt calls it destroy."""
    with faults():
        if network.raw.isActive():
            network.raw.destroy()


def way_to(name: str) -> str:
    """What the bridge is called that machines are plugged into a network by way of; the kernel takes 15 characters."""
    return f"kvmway{sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def way(connection: Any, name: str) -> Iterator[str]:
    """That bridge, with nothing on it, until the end of this. Its network is not defined, and gone with it."""
    bridge, root = way_to(name), etree.Element("network")
    etree.SubElement(root, "name").text = f"{WAY}{bridge}"
    # without addresses, which leads nowhere
    etree.SubElement(root, "bridge", name=bridge, stp="off", delay="0")
    try:
        network = find(connection, f"{WAY}{bridge}")
    except NotFound:
        with faults():
            network = Network(connection.networkCreateXML(to_text(root)))
    try:
        yield bridge
    finally:
        stop(network)


def rename(connection: Any, old: str, new: str, permit: Permit) -> None:
    """libvirt has no call for it: stop the network, undefine it, and define it under its new name with its UUID."""
    network = find(connection, old)
    before, autostart = xml(network), network.raw.autostart()
    node = document(before)
    parse_path("name").set(node, new)
    undefine(network, permit)
    try:
        set_autostart(define(connection, to_text(node)), autostart)
    except HostError:
        set_autostart(define(connection, before), autostart)
        raise


def set_autostart(network: Network, value: bool) -> None:
    with faults():
        network.raw.setAutostart(int(value))


def update(network: Network, command: int, section: str, text: str, index: int) -> None:
    """Change a part of a running network, and not its definition; guests keep their connection. `section` is the name
    of one of virNetworkUpdateSection, `index` the number of the <ip> that it is below, or -1."""
    number = getattr(libvirt, f"VIR_NETWORK_SECTION_{section}")
    with faults():
        network.raw.update(command, number, index, text, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE)


def undefine(network: Network, permit: Permit) -> None:
    permit.check(network)
    ran = is_active(network)
    stop(network)
    try:
        # stopping takes its time
        permit.check(network)
    except HostError:
        if ran:
            start(network)
        raise
    with faults():
        network.raw.undefine()
