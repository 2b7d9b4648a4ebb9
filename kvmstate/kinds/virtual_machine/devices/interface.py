"""Network interfaces: https://libvirt.org/formatdomain.html#network-interfaces"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Fault
from kvmstate.kind.filterref import FilterName, FilterRef
from kvmstate.kinds.virtual_machine.devices import (
    Bandwidth,
    GuestIp,
    GuestRoute,
    NicDriver,
    PortForward,
    Reconnect,
    Rom,
    Teaming,
    VirtualPort,
    Vlan,
)
from kvmstate.kinds.virtual_machine.devices.base import (
    LOADPARM,
    Device,
    DeviceName,
    Owner,
    in_remainder,
    item_named,
    named,
    parent_of,
)
from kvmstate.kinds.virtual_machine.devices.pci import PCI_PATTERN, TYPED_PCI
from kvmstate.model.address import IpAddress, IpInterface, Mac
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, owning, xml, xml_list
from kvmstate.xmlbind.codecs import same_case, same_flag, same_path


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


Type = Literal[
    "user",
    "direct",
    "ethernet",
    "hostdev",
    "vhostuser",
    "vdpa",
    "server",
    "client",
    "mcast",
    "udp",
    "internal",
    "null",
    "vds",
]


def _read_type(node: etree._Element, lookup: Lookup) -> str | None:
    source, kind = node.find("source"), node.get("type")
    named = kind in ("network", "bridge") or (source is not None and source.get("network") is not None)
    return None if named else kind


def _write_type(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value is not None:
        node.set("type", value)
        if value == "vhostuser":
            source = node.find("source")
            (source if source is not None else etree.SubElement(node, "source")).set("type", "unix")


def _read_switch_port(node: etree._Element, lookup: Lookup) -> int | None:
    # that of a network's interface is a UUID, and libvirt's own
    port = node.get("portid", "")
    return int(port) if parent_of(node).get("type") == "vds" and port.isdecimal() else None


def _write_switch_port(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    if value is not None:
        node.set("portid", str(value))
    elif parent_of(node).get("type") == "vds":
        node.attrib.pop("portid", "")


class Interface(Device):
    """A network interface."""

    tag = "interface"
    swaps = ("source",)
    volatile = ("target[starts-with(@dev, 'vnet')]", "source/@portid")

    name: DeviceName | None = xml(
        ".",
        named("mac/@address", unnamed),
        doc="Unique in this machine. Default: the network's name (then NETWORK-2, …).",
    )
    network: str | None = xml("source", _source("network"), ref="network", effect=Effect.LIVE, doc="A virtual network.")
    bridge: str | None = xml(
        "source", _source("bridge"), effect=Effect.LIVE, ref="interface", doc="Instead: a bridge of the host."
    )
    type: Type | None = xml(
        ".",
        Element(_read_type, _write_type),
        doc="Instead of both: user (QEMU's own network), direct (macvtap on a device of the host's), ethernet (a tap "
        "device), hostdev (a network card), vhostuser, vdpa, or sockets to other guests.",
    )
    device: str | None = xml(
        "source/@dev", ref="interface", pattern=r"^[A-Za-z0-9_./:-]+$", doc="The host's, of direct and vdpa."
    )
    mode: Literal["vepa", "bridge", "private", "passthrough", "server", "client"] | None = xml(
        "source/@mode", lasting=True, doc="Of direct, how guests on one device see each other; of vhostuser, who calls."
    )
    path: str | None = xml("source/@path", same=same_path, pattern="^/", doc="The socket of vhostuser.")
    pci: str | None = xml(
        "source/address", TYPED_PCI, same=same_case, pattern=PCI_PATTERN, doc="Of hostdev: 0000:03:00.1."
    )
    managed: bool | None = xml("@managed", lasting=True, doc="Of hostdev: libvirt takes it from its driver.")
    usb_vendor: str | None = xml("source/vendor/@id", pattern="^0x[0-9a-f]{4}$", doc="Of hostdev: a USB network card.")
    usb_product: str | None = xml("source/product/@id", pattern="^0x[0-9a-f]{4}$", doc="Of hostdev: beside usbVendor.")
    internal: str | None = xml("source/@name", doc="Of internal: the network's name (VirtualBox).")
    switch: str | None = xml("source/@switchid", pattern="^[0-9a-f -]+$", doc="Of vds: the switch (VMware).")
    switch_portgroup: str | None = xml("source/@portgroupid", doc="Of vds: the group of its ports.")
    switch_port: int | None = xml(
        "source", Element(_read_switch_port, _write_switch_port), ge=0, doc="Of vds: its port."
    )
    switch_connection: int | None = xml("source/@connectionid", ge=0, doc="Of vds.")
    reconnect: Reconnect | None = xml("source/reconnect", doc="Of vhostuser that calls.")
    host_ips: list[GuestIp] = xml_list("source/ip", doc="Of ethernet: the host's own on the device.")
    host_routes: list[GuestRoute] = xml_list("source/route", doc="Of ethernet: the host's through the device.")
    peer: str | None = xml("source/@address", doc="Of server, client, mcast and udp: an IP address.")
    peer_port: int | None = xml("source/@port", ge=1, le=65535, doc="Of server, client, mcast and udp.")
    local: str | None = xml("source/local/@address", doc="Of udp: this side's.")
    local_port: int | None = xml("source/local/@port", ge=1, le=65535, doc="Of udp: this side's.")
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
    mac_check: bool | None = xml("mac/@check", doc="VMware only: whether it has to be one of VMware's.")
    mac_type: Literal["static", "generated"] | None = xml("mac/@type", lasting=True, doc="VMware only.")
    model: str | None = xml(
        "model/@type",
        default="virtio",
        lasting=True,
        pattern=r"^[A-Za-z0-9_-]+$",
        doc="The network card that the guest sees: virtio, e1000e, e1000, rtl8139, …",
    )
    target: str | None = xml(
        "target/@dev", pattern=r"^[A-Za-z0-9_.-]{1,15}$", doc="The host's device. Default: libvirt's vnetN."
    )
    target_managed: bool | None = xml("target/@managed", lasting=True, doc="Of ethernet: no makes use of one there.")
    script: str | None = xml("script/@path", same=same_path, doc="Run with the device, when it comes.")
    downscript: str | None = xml("downscript/@path", same=same_path, doc="Run with the device, when it goes.")
    virtualport: VirtualPort | None = xml("virtualport")
    vlan: Vlan | None = xml("vlan", effect=Effect.LIVE)
    bandwidth: Bandwidth | None = xml("bandwidth", in_parts=True)
    ips: list[GuestIp] = xml_list("ip", doc="Of user and containers.")
    routes: list[GuestRoute] = xml_list("route", doc="Of containers.")
    backend: Literal["default", "passt"] | None = xml("backend/@type", doc="Of user: passt does the work.")
    backend_log: str | None = xml("backend/@logFile", pattern="^/", doc="Of passt.")
    tap: str | None = xml("backend/@tap", same=same_path, pattern="^/", doc="Instead of /dev/net/tun.")
    vhost: str | None = xml("backend/@vhost", same=same_path, pattern="^/", doc="Instead of /dev/vhost-net.")
    port_forwards: list[PortForward] = xml_list("portForward", doc="Of passt.")
    driver: NicDriver | None = xml("driver", shared=True)
    guest_device: str | None = xml("guest/@dev", doc="What it is called in a container.")
    backend_domain: str | None = xml("backenddomain/@name", doc="The machine that serves it (Xen).")
    rom: Rom | None = xml("rom")
    teaming: Teaming | None = xml("teaming")
    sndbuf: int | None = xml("tune/sndbuf", ge=0, doc="In bytes; 0: no limit.")
    coalesce: int | None = xml(
        "coalesce/rx/frames/@max", effect=Effect.LIVE, ge=0, doc="Packets that wait for one interrupt at most."
    )
    trust_guest_rx_filters: bool | None = xml(
        "@trustGuestRxFilters", effect=Effect.LIVE, doc="The guest's MAC addresses are taken."
    )
    link: Literal["up", "down"] | None = xml("link/@state", effect=Effect.LIVE, doc="Whether the cable is in.")
    isolated: bool | None = xml(
        "port/@isolated",
        same=same_flag,
        effect=Effect.LIVE,
        doc="Whether other isolated guests on its bridge are out of reach.",
    )
    filterref: FilterRef | None = xml(
        "filterref", whole=True, effect=Effect.LIVE, doc="Which packets it may send and receive."
    )
    security_groups: list[FilterName] | None = field(
        ref="nwfilter",
        effect=Effect.LIVE,
        doc="Network filters whose rules say what may reach it: all else is dropped, but answers to the guest's own "
        "connections; of an empty list all. They become a network filter of the machine's own.",
        examples=[["web", "ssh"]],
    )
    addresses: list[IpInterface] = field(
        [], doc="The guest's own, with their prefix lengths, as `cloudInit` tells it. Default: by DHCP."
    )
    gateway: IpAddress | None = field(doc="The guest's default route, beside `addresses`.")
    nameservers: list[IpAddress] = field([], doc="The guest's, beside `addresses`.")
    mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")
    queues: int | None = xml("driver/@queues", ge=1, le=256, doc="How many CPUs share its traffic; model virtio only.")
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")
    boot_loadparm: str | None = xml("boot/@loadparm", pattern=LOADPARM, doc="What is booted from it, on s390x.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.network, self.bridge, self.type)) > 1:
            raise ValueError("an interface has either network or bridge, not both")
        if self.security_groups is not None and (self.filterref or self.type):
            beside = "either filterref or securityGroups" if self.filterref else "network or bridge with securityGroups"
            raise ValueError(f"an interface has {beside}")
        if (self.target or "").startswith("vnet"):
            raise ValueError(f"libvirt chooses names such as {self.target} itself, and drops those that are given")
        if (self.gateway or self.nameservers) and not self.addresses:
            raise ValueError("gateway and nameservers go with addresses: else DHCP says them")
        if self.queues and self.model != "virtio":
            raise ValueError(f"queues go with model virtio, not {self.model}")
        return self

    def faults(self, machine: Any, at: tuple[str | int, ...]) -> Iterator[Fault]:
        if not (self.network or self.bridge or self.type or in_remainder(machine, at)):
            yield Fault(at, "an interface needs either network or bridge")
        if self.addresses and not machine.cloud_init:
            why = "nobody tells the guest its addresses: the machine has no cloudInit"
            yield Fault((*at, "addresses"), why, "write cloudInit: {}, or set them in the guest")

    @classmethod
    def completed(cls, wanted: Sequence[Any], seen: Sequence[Any], owner: Owner) -> Sequence[Any]:
        """One that the machine has keeps its MAC address, also when the machine is renamed."""
        made = []
        for nic in named_interfaces(wanted, seen):
            told: dict[str, Any] = {
                "mac": nic.mac or getattr(item_named(seen, nic.name), "mac", None) or _mac(owner, nic)
            }
            if nic.type == "hostdev" and "model" not in nic.model_fields_set:
                # it is what it is
                told["model"] = None
            made.append(nic.model_copy(update=told))
        return made


def guests(wanted: Sequence[Interface], owner: Owner) -> Iterator[dict[str, Any]]:
    """What the guest of a new machine is told of its interfaces, in the words of cloud-init's network configuration,
    version 2. One that is not told its address asks for it."""
    for number, nic in enumerate(Interface.completed(wanted, (), owner)):
        told: dict[str, Any] = {"match": {"macaddress": nic.mac}, "set-name": f"eth{number}"}
        if not nic.addresses:
            yield told | {"dhcp4": True}
            continue
        told["addresses"] = nic.addresses
        if nic.gateway:
            told["routes"] = [{"to": "::/0" if ":" in nic.gateway else "0.0.0.0/0", "via": nic.gateway}]
        if nic.nameservers:
            told["nameservers"] = {"addresses": nic.nameservers}
        yield told


def as_libvirt_has(nic: Interface) -> Interface:
    """Without what only the guest is told."""
    told = {"addresses", "gateway", "nameservers"} & nic.model_fields_set
    return owning(nic, *(nic.model_fields_set - told)) if told else nic


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
        stem = "".join(
            c if c.isalnum() or c in "_-" else "-"
            for c in interface.network or interface.bridge or interface.type or ""
        )
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
