"""Network interfaces: https://libvirt.org/formatdomain.html#network-interfaces"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind.filterref import FilterRef
from kvmstate.kinds.virtual_machine.devices.base import Device, DeviceName, Owner, item_named, named, parent_of
from kvmstate.model.address import Mac
from kvmstate.model.effect import Effect
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml
from kvmstate.xmlbind.codecs import same_case, same_flag


def unnamed(mac: str) -> str:
    """What an interface is called that nobody has given a name."""
    return "nic-" + mac.lower().replace(":", "")


def _source(kind: str) -> Element:
    """A network's or bridge's name in <source>, which also decides the interface's type."""

    def read(node: etree._Element, lookup: Lookup) -> str | None:
        # what runs has the type that its network came to, and names the network all the same
        found = "network" if node.get("network") else parent_of(node).get("type")
        return node.get(kind) if found == kind else None

    def write(node: etree._Element, value: str | None, lookup: Lookup) -> None:
        if value is None:
            if parent_of(node).get("type") == kind:
                parent_of(node).remove(node)
            return
        parent_of(node).set("type", kind)
        for attribute in list(node.attrib):
            del node.attrib[attribute]
        node.set(kind, value)

    return Element(read, write)


class Interface(Device):
    """A network interface."""

    tag = "interface"
    only = {"type": ("network", "bridge")}
    plug = Effect.LIVE
    swaps = ("source", "link", "filterref")
    volatile = ("target[starts-with(@dev, 'vnet')]", "source/@portid")

    name: DeviceName | None = xml(
        ".",
        named("mac/@address", unnamed),
        doc="Unique in this machine. Default: the network's name (then NETWORK-2, …).",
    )
    network: str | None = xml("source", _source("network"), ref="network", effect=Effect.LIVE, doc="A virtual network.")
    bridge: str | None = xml("source", _source("bridge"), effect=Effect.LIVE, doc="Instead: a bridge of the host.")
    portgroup: str | None = xml(
        "source/@portgroup", doc="A port group of the network, with a VLAN or limits of its own."
    )
    mac: Mac | None = xml(
        "mac/@address",
        same=same_case,
        lasting=True,
        unique=True,
        doc="Default: derived from project, machine and interface name, so that a rebuilt one keeps it.",
    )
    model: Literal["virtio", "e1000", "e1000e", "rtl8139"] | None = xml(
        "model/@type", default="virtio", lasting=True, doc="The network card that the guest sees."
    )
    link: Literal["up", "down"] | None = xml("link/@state", effect=Effect.LIVE, doc="Whether the cable is in.")
    isolated: bool | None = xml(
        "port/@isolated", same=same_flag, doc="Whether other isolated guests on its bridge are out of reach."
    )
    filterref: FilterRef | None = xml(
        "filterref", whole=True, effect=Effect.LIVE, doc="Which packets it may send and receive."
    )
    mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")
    queues: int | None = xml("driver/@queues", ge=1, le=256, doc="How many CPUs share its traffic; model virtio only.")
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.network is None) == (self.bridge is None):
            raise ValueError("an interface needs either network or bridge")
        if self.queues and self.model != "virtio":
            raise ValueError(f"queues go with model virtio, not {self.model}")
        return self

    @classmethod
    def completed(cls, wanted: Sequence[Any], seen: Sequence[Any], owner: Owner) -> Sequence[Any]:
        """One that the machine has keeps its MAC address, also when the machine is renamed."""
        return [
            nic.model_copy(
                update={"mac": nic.mac or getattr(item_named(seen, nic.name), "mac", None) or _mac(owner, nic)}
            )
            for nic in named_interfaces(wanted, seen)
        ]


def _mac(owner: Owner, interface: Interface) -> str:
    """In QEMU's range, always the same for the same names."""
    digest = hashlib.sha256(f"{owner.project}/{owner.machine}/{interface.name or ''}".encode()).hexdigest()
    return f"52:54:00:{digest[:2]}:{digest[2:4]}:{digest[4:6]}"


def named_interfaces(interfaces: Sequence[Interface], seen: Sequence[Interface]) -> Iterator[Interface]:
    """Each with a name: that of the one seen with its MAC or in its place, else its network's, made unique by a
    number."""
    known: dict[str | None, str | None] = {i.mac: i.name for i in seen if i.mac}
    taken = {name for i in interfaces if (name := i.name or known.get(i.mac))}
    nameless = [i for i in interfaces if not i.name and i.mac not in known]
    kept = _by_place(nameless, [i for i in seen if i.name not in taken])
    taken |= {*kept.values()}
    for interface in interfaces:
        if interface.name:
            yield interface
            continue
        if name := known.get(interface.mac) or kept.get(id(interface)):
            yield interface.model_copy(update={"name": name})
            continue
        stem = "".join(c if c.isalnum() or c in "_-" else "-" for c in interface.network or interface.bridge or "")
        candidates = (stem if n == 1 else f"{stem}-{n}" for n in range(1, len(interfaces) + len(taken) + 2))
        name = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        yield interface.model_copy(update={"name": name})


def _by_place(nameless: Sequence[Interface], seen: Sequence[Interface]) -> dict[int, str]:
    """The names, by identity, of those that have another MAC now: as many as there were on that network, in order."""
    found: dict[int, str] = {}
    for source in {(i.network, i.bridge) for i in nameless}:
        here, there = ([i for i in items if (i.network, i.bridge) == source] for items in (nameless, seen))
        if len(here) == len(there):
            found |= {id(i): old.name for i, old in zip(here, there, strict=True) if old.name}
    return found
