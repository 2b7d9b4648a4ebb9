"""Devices of the host's: https://libvirt.org/formatdomain.html#host-device-assignment"""

from typing import Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kinds.virtual_machine.devices.base import LOADPARM, Device
from kvmstate.kinds.virtual_machine.devices.network_disk import Auth
from kvmstate.kinds.virtual_machine.devices.nic import Rom, Teaming
from kvmstate.kinds.virtual_machine.devices.pci import PCI, PCI_PATTERN
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, present, same_case, same_flag


class IscsiHost(Section):
    """Where the server is."""

    name: str = xml("@name", required=True)
    port: int | None = xml("@port", ge=1, le=65535, lasting=True)


def _read_bus(node: etree._Element, lookup: Lookup) -> int | None:
    return int(node.get("bus", "0"), 0) if node.get("device") else None


def _write_bus(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    node.attrib.pop("bus", "")
    if value is not None:
        node.set("bus", str(value))


_USB_BUS = Element(_read_bus, _write_bus)


def _read_scsi(node: etree._Element, lookup: Lookup) -> str | None:
    parts = [node.get(name) for name in ("bus", "target", "unit")]
    return ":".join(part for part in parts if part) if all(parts) else None


def _write_scsi(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    for name, part in zip(("bus", "target", "unit"), (value or "::").split(":"), strict=True):
        node.attrib.pop(name, "")
        if part:
            node.set(name, part)


class Hostdev(Device):
    """A device of the host's, for this guest."""

    tag = "hostdev"
    key = ""
    only = {"mode": ("subsystem",)}
    made_with = {"@mode": "subsystem"}

    type: Literal["pci", "usb", "scsi", "scsi_host", "mdev"] = xml("@type", required=True)
    managed: bool | None = xml("@managed", lasting=True, doc="libvirt takes it from its driver, and gives it back.")
    pci: str | None = xml(
        "source/address",
        PCI,
        same=same_case,
        pattern=PCI_PATTERN,
        doc="Of type pci: where it is, such as 0000:06:02.0.",
    )
    write_filtering: bool | None = xml("source/@writeFiltering", doc="Of type pci.")
    driver: str | None = xml(
        "driver/@name", pattern=r"^[A-Za-z0-9_]+$", lasting=True, doc="Of type pci. Default: vfio."
    )
    driver_model: str | None = xml(
        "driver/@model", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="Of type pci: which of VFIO's drivers."
    )
    vendor: str | None = xml("source/vendor/@id", pattern="^0x[0-9a-f]{4}$", doc="Of type usb.")
    product: str | None = xml("source/product/@id", pattern="^0x[0-9a-f]{4}$", doc="Of type usb.")
    device: int | None = xml("source/address/@device", ge=1, doc="Of type usb: where it is on its bus.")
    bus: int | None = xml("source/address", _USB_BUS, ge=1, doc="Of type usb: where it is.")
    startup_policy: Literal["mandatory", "requisite", "optional"] | None = xml(
        "source/@startupPolicy", doc="Of type usb: what happens when it is not there."
    )
    guest_reset: Literal["on", "off", "uninitialized"] | None = xml(
        "source/@guestReset", doc="Of type usb: whether the guest may reset it."
    )
    adapter: str | None = xml("source/adapter/@name", doc="Of type scsi: such as scsi_host0.")
    scsi: str | None = xml(
        "source/address",
        Element(_read_scsi, _write_scsi),
        pattern=r"^[0-9]+:[0-9]+:[0-9]+$",
        doc="Of type scsi: the bus, the target and the unit, such as 0:0:0.",
    )
    protocol: Literal["iscsi", "vhost"] | None = xml("source/@protocol", doc="Of type scsi, or scsi_host.")
    name: str | None = xml("source/@name", doc="Of iSCSI: the target, and its unit.")
    hosts: list[IscsiHost] = xml_list("source/host", doc="Of iSCSI.")
    initiator: str | None = xml("source/initiator/iqn/@name", doc="Of iSCSI.")
    auth: Auth | None = xml("source/auth", doc="Of iSCSI: who asks.")
    wwpn: str | None = xml("source/@wwpn", pattern=r"^naa\.[0-9a-fA-F]{16}$", doc="Of type scsi_host.")
    uuid: str | None = xml("source/address/@uuid", pattern="^[0-9a-f-]{36}$", doc="Of type mdev.")
    model: str | None = xml("@model", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="Of types mdev and scsi_host.")
    display: bool | None = xml("@display", ON_OFF, lasting=True, doc="Of type mdev: it is a screen.")
    ramfb: bool | None = xml("@ramfb", ON_OFF, doc="Of type mdev: a screen while the guest boots.")
    rawio: bool | None = xml("@rawio", doc="Of type scsi.")
    sgio: Literal["filtered", "unfiltered"] | None = xml("@sgio", doc="Of type scsi.")
    read_only: bool | None = xml(".", present("readonly"), same=same_flag, doc="Of type scsi.")
    shareable: bool | None = xml(".", present("shareable"), same=same_flag, doc="Of type scsi.")
    rom: Rom | None = xml("rom")
    teaming: Teaming | None = xml("teaming")
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")
    boot_loadparm: str | None = xml("boot/@loadparm", pattern=LOADPARM, doc="What is booted from it, on s390x.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needs = {"pci": "pci", "mdev": "uuid", "scsi_host": "wwpn"}
        if (name := needs.get(self.type)) and getattr(self, name) is None:
            raise ValueError(f"a hostdev of type {self.type} needs {name}")
        return self
