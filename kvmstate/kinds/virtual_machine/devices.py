"""The devices of a virtual machine: https://libvirt.org/formatdomain.html#devices"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from lxml import etree
from pydantic import Field, model_validator

from kvmstate.model.address import IpAddress, Mac
from kvmstate.model.effect import Effect, When
from kvmstate.model.reference import VolumeRef
from kvmstate.xmlbind import Element, Section, disk_source, xml
from kvmstate.xmlbind.codecs import present, same_case, same_flag, same_path
from kvmstate.xmlbind.path import parse_path

MEDIUM = When("device", ("cdrom",), then=Effect.LIVE, otherwise=Effect.RESTART)
# How libvirt calls the disks of each bus
BUS_PREFIX = {"virtio": "vd", "sata": "sd", "scsi": "sd", "usb": "sd", "ide": "hd"}
HOT_PLUG = When("bus", ("virtio", "scsi", "usb"), then=Effect.LIVE, otherwise=Effect.RESTART)

# Devices are told apart by libvirt's user aliases, which must start with ua-
# (https://libvirt.org/formatdomain.html#devices); those made without one, by what libvirt knows them by.
DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=60, description="Unique in this machine.")]


def _named(fallback: str, known: Callable[[str], str] = str) -> Element:
    def read(node: etree._Element, lookup: Any) -> str | None:
        alias = parse_path("alias/@name").text(node) or ""
        if alias.startswith("ua-"):
            return alias.removeprefix("ua-")
        text = parse_path(fallback).text(node)
        return known(text) if text else None

    def write(node: etree._Element, value: str | None, lookup: Any) -> None:
        if value is not None and read(node, lookup) != value:
            parse_path("alias/@name").set(node, f"ua-{value}")

    return Element(read, write)


def _disk_of(node: etree._Element) -> etree._Element:
    disk = node.getparent()
    assert disk is not None
    return disk


def _path(disk: etree._Element, lookup: Any) -> str:
    """The file or device that a disk shows, also when the XML names a volume; empty where nobody knows."""
    source = disk_source.read(disk)
    if source is None:
        return ""
    found = lookup.path_of(source.pool, source.volume) if source.pool and lookup else None
    return found[1] if found else source.path


def _read_volume(node: etree._Element, lookup: Any) -> VolumeRef | None:
    source = disk_source.read(_disk_of(node))
    if source is None or lookup is None:
        return None
    if source.pool:
        return VolumeRef(pool=source.pool, name=source.volume)
    return lookup.volume_at(source.path) if source.path else None


def _write_volume(node: etree._Element, value: VolumeRef | None, lookup: Any) -> None:
    if value is None:
        _disk_of(node).remove(node)
        return
    source = lookup.volume_source(value)
    disk_source.write(_disk_of(node), source.type, source.path, source.format)


def _read_file(node: etree._Element, lookup: Any) -> str | None:
    path = _path(_disk_of(node), lookup)
    return lookup.original(path)[0] if path and lookup else path or None


def _write_file(node: etree._Element, value: str | None, lookup: Any) -> None:
    if value is None:
        _disk_of(node).remove(node)
    else:
        disk_source.write(_disk_of(node), "block" if value.startswith("/dev/") else "file", value, None)


def _read_format(driver: etree._Element, lookup: Any) -> str | None:
    found, path = driver.get("type"), _path(_disk_of(driver), lookup)
    return lookup.original(path, found)[1] if path and found and lookup else found


def _write_format(driver: etree._Element, value: str | None, lookup: Any) -> None:
    if value and _read_format(driver, lookup) != value:
        driver.set("type", value)


def _read_bus(target: etree._Element, lookup: Any) -> str | None:
    return target.get("bus")


def _write_bus(target: etree._Element, value: str, lookup: Any) -> None:
    if target.get("bus") != value:
        target.set("bus", value)
        disk = target.getparent()
        assert disk is not None
        for place in disk.findall("address"):
            # on the old bus
            disk.remove(place)


VOLUME = Element(_read_volume, _write_volume)
FILE = Element(_read_file, _write_file)
FORMAT = Element(_read_format, _write_format)
BUS = Element(_read_bus, _write_bus)


def unnamed(mac: str) -> str:
    """What an interface is called that nobody has given a name."""
    return "nic-" + mac.lower().replace(":", "")


class Disk(Section):
    """A disk, or a CD-ROM drive."""

    made_with = {"driver/@name": "qemu"}

    name: DeviceName = xml(".", _named("target/@dev"), required=True)
    device: Literal["disk", "cdrom"] = xml("@device", default="disk")
    volume: VolumeRef | None = xml(
        "source",
        VOLUME,
        ref="volume",
        effect=MEDIUM,
        doc="The volume that it shows. A CD-ROM drive without one is empty; its medium changes live.",
    )
    file: str | None = xml(
        "source",
        FILE,
        same=same_path,
        effect=MEDIUM,
        pattern="^/",
        doc="Instead of a volume: an image file or block device of the host, by its path.",
    )
    format: Literal["raw", "qcow2"] | None = xml(
        "driver/@type", FORMAT, lasting=True, doc="Of what is in the file. A volume knows its own."
    )
    bus: Literal["virtio", "sata", "scsi", "ide", "usb"] | None = xml("target/@bus", BUS, lasting=True)
    target: str | None = xml(
        "target/@dev",
        lasting=True,
        pattern="^(vd|sd|hd)[a-z]+$",
        doc="The device name, such as vda. Default: the next that is free.",
    )
    cache: Literal["default", "none", "writethrough", "writeback", "directsync", "unsafe"] | None = xml("driver/@cache")
    io: Literal["threads", "native", "io_uring"] | None = xml(
        "driver/@io", doc="How QEMU does input and output; native needs cache none or directsync."
    )
    discard: Literal["unmap", "ignore"] | None = xml("driver/@discard", doc="Whether TRIM reaches the image.")
    serial: str | None = xml("serial", max_length=20, doc="As the guest sees it.")
    read_only: bool | None = xml(".", present("readonly"), same=same_flag)
    shareable: bool | None = xml(
        ".",
        present("shareable"),
        same=same_flag,
        doc="Whether other machines may write to it at the same time, which their guests must be made for (a cluster's "
        "file system). Raw images only; it is in no snapshot.",
    )
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")

    @model_validator(mode="after")
    def _one_source(self) -> Disk:
        if self.volume and self.file:
            raise ValueError("a disk has either volume or file, not both")
        if self.device == "disk" and not (self.volume or self.file):
            raise ValueError("a disk needs a volume or a file")
        if self.shareable and self.read_only:
            raise ValueError("a disk is either shareable or readOnly, not both")
        if self.shareable and self.format not in ("raw", None):
            raise ValueError(f"a shareable disk has format raw: QEMU shares no {self.format} image")
        if self.target and self.bus and not self.target.startswith(BUS_PREFIX[self.bus]):
            raise ValueError(f"a target on bus {self.bus} starts with {BUS_PREFIX[self.bus]}, unlike {self.target}")
        return self


def _source(kind: str) -> Element:
    """A network's or bridge's name in <source>, which also decides the interface's type."""

    def read(node: etree._Element, lookup: Any) -> str | None:
        # what runs has the type that its network came to, and names the network all the same
        found = "network" if node.get("network") else _interface_of(node).get("type")
        return node.get(kind) if found == kind else None

    def write(node: etree._Element, value: str | None, lookup: Any) -> None:
        if value is None:
            if _interface_of(node).get("type") == kind:
                _interface_of(node).remove(node)
            return
        _interface_of(node).set("type", kind)
        for attribute in list(node.attrib):
            del node.attrib[attribute]
        node.set(kind, value)

    return Element(read, write)


def _interface_of(source: etree._Element) -> etree._Element:
    parent = source.getparent()
    assert parent is not None
    return parent


class Interface(Section):
    """A network interface."""

    name: DeviceName | None = xml(
        ".",
        _named("mac/@address", unnamed),
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
        doc="Default: derived from project, machine and interface name, so that a rebuilt one keeps it.",
    )
    model: Literal["virtio", "e1000", "e1000e", "rtl8139"] | None = xml("model/@type", default="virtio", lasting=True)
    link: Literal["up", "down"] | None = xml("link/@state", effect=Effect.LIVE, doc="Whether the cable is in.")
    isolated: bool | None = xml(
        "port/@isolated", same=same_flag, doc="Whether other isolated guests on its bridge are out of reach."
    )
    mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")
    queues: int | None = xml("driver/@queues", ge=1, le=256, doc="How many CPUs share its traffic; model virtio only.")
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")

    @model_validator(mode="after")
    def _one_source(self) -> Interface:
        if (self.network is None) == (self.bridge is None):
            raise ValueError("an interface needs either network or bridge")
        if self.queues and self.model != "virtio":
            raise ValueError(f"queues go with model virtio, not {self.model}")
        return self


def _read_port(node: etree._Element, lookup: Any) -> int | None:
    return int(node.get("port", "-1")) if node.get("autoport") != "yes" else None


def _write_port(node: etree._Element, value: int | None, lookup: Any) -> None:
    node.set("autoport", "no" if value else "yes")
    node.set("port", str(value or -1))


def _read_listen(node: etree._Element, lookup: Any) -> str | None:
    said, again = node.get("listen"), node.find("listen")
    return said if again is not None and again.get("address") == said else None


def _write_listen(node: etree._Element, value: str | None, lookup: Any) -> None:
    node.attrib.pop("listen", "")
    # libvirt says it twice, and refuses two that differ
    for again in node.findall("listen"):
        node.remove(again)
    if value:
        node.set("listen", value)
        etree.SubElement(node, "listen", type="address", address=value)


PORT = Element(_read_port, _write_port)
LISTEN = Element(_read_listen, _write_listen)


class Graphics(Section):
    made_with = {"@autoport": "yes"}

    type: Literal["vnc", "spice"] = xml("@type", required=True)
    listen: IpAddress | None = xml(".", LISTEN, doc="The host's address to listen on. Default: 127.0.0.1.")
    port: int | None = xml(".", PORT, ge=5900, le=65535, doc="Default: the first that is free.")


class Serial(Section):
    """A serial port that `virsh console` opens; `log` keeps what the guest writes in a file on the host."""

    made_with = {"@type": "pty"}

    port: int = xml("target/@port", default=0, ge=0, le=3)
    log: str | None = xml("log/@file", same=same_path, pattern="^/", doc="A file that virtlogd writes.")


class Rng(Section):
    """Entropy for the guest."""

    present = True
    made_with = {"@model": "virtio", "backend/@model": "random"}

    source: str | None = xml(
        "backend",
        same=same_path,
        lasting=True,
        pattern="^/",
        doc="A random device of the host. Default: libvirt's own.",
    )


AGENT_CHANNEL = "org.qemu.guest_agent.0"


def _read_agent(node: etree._Element, lookup: Any) -> bool | None:
    return True if _agent(node) is not None else None


def _write_agent(node: etree._Element, value: bool | None, lookup: Any) -> None:
    channel = _agent(node)
    if value and channel is None:
        channel = etree.SubElement(node, "channel", type="unix")
        etree.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    elif not value and channel is not None:
        node.remove(channel)


def _agent(devices: etree._Element) -> etree._Element | None:
    return parse_path(f"channel[target/@name='{AGENT_CHANNEL}']").find(devices)


GUEST_AGENT = Element(_read_agent, _write_agent)
