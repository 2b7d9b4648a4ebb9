"""Controllers: https://libvirt.org/formatdomain.html#controllers"""

import re

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Thread, Virtio
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml, xml_list
from kvmstate.xmlbind.codecs import HEXADECIMAL, ON_OFF
from kvmstate.xmlbind.path import parse_path

TYPES = ("ide", "fdc", "scsi", "sata", "usb", "ccid", "virtio-serial", "pci", "xenbus", "isa", "nvme")
_NAME = re.compile(rf"({'|'.join(TYPES)})\.?(\d+)(?:\+(\d+))?")
# what all machines of their kind have
_ROOTS = ("pci-root", "pcie-root")


def _read_name(node: etree._Element, lookup: Lookup) -> str | None:
    kind = node.get("type", "")
    master = node.find("master")
    first = f"+{master.get('startport', '0')}" if master is not None else ""
    return f"{kind}{'.' if kind == 'pci' else ''}{node.get('index', '0')}{first}"


def _write_name(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value and (found := _NAME.fullmatch(value)):
        node.set("type", found[1])
        node.set("index", found[2])
        if found[3]:
            parse_path("master/@startport").set(node, found[3])


class Controller(Device):
    """What disks, ports and other devices are connected to. libvirt adds those that devices need: a list says some of
    them, and leaves the others."""

    tag = "controller"
    key = "name"

    name: str = xml(
        ".",
        Element(_read_name, _write_name),
        required=True,
        pattern=rf"^({'|'.join(TYPES)})\.?[0-9]+(\+[0-9]+)?$",
        doc="Its type and its index, such as scsi0, usb0 or pci.2; of a USB companion its first port, too: usb0+2.",
    )
    model: str | None = xml(
        "@model", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="Such as virtio-scsi or qemu-xhci."
    )
    ports: int | None = xml("@ports", ge=0, lasting=True, doc="Of usb (qemu-xhci) and virtio-serial.")
    vectors: int | None = xml("@vectors", ge=0, lasting=True, doc="Interrupts of virtio-serial.")
    queues: int | None = xml("driver/@queues", ge=1, doc="Of virtio-scsi.")
    cmd_per_lun: int | None = xml("driver/@cmd_per_lun", ge=1, doc="Of virtio-scsi.")
    max_sectors: int | None = xml("driver/@max_sectors", ge=1, doc="Of virtio-scsi.")
    ioeventfd: bool | None = xml("driver/@ioeventfd", ON_OFF, doc="Of virtio-scsi.")
    iothread: int | None = xml("driver/@iothread", ge=1, doc="Of virtio-scsi: which of `iothreads` serves it.")
    threads: list[Thread] = xml_list(
        "driver/iothreads/iothread", key="id", doc="Of virtio-scsi: several, instead of iothread."
    )
    virtio: Virtio | None = xml("driver", shared=True)
    device: str | None = xml(
        "model/@name", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="As QEMU calls it; pci only."
    )
    chassis: int | None = xml("target/@chassis", ge=0, le=255, lasting=True, doc="Of PCIe ports.")
    chassis_nr: int | None = xml("target/@chassisNr", ge=0, le=255, lasting=True, doc="Of PCI bridges.")
    port: int | None = xml("target/@port", HEXADECIMAL, ge=0, le=255, lasting=True, doc="Of PCIe ports.")
    bus_nr: int | None = xml("target/@busNr", ge=1, le=254, lasting=True, doc="Of expander buses.")
    node: int | None = xml("target/node", ge=0, doc="The guest's NUMA node of an expander bus.")
    hotplug: bool | None = xml("target/@hotplug", ON_OFF, lasting=True, doc="Of PCIe ports.")
    hole64: int | None = xml("pcihole64", ge=0, lasting=True, doc="In KiB; the room for devices' memory past 4 GiB.")
    mem_reserve: int | None = xml("target/@memReserve", ge=1, lasting=True, doc="Of PCIe ports: in KiB, for devices.")
    max_grant_frames: int | None = xml("@maxGrantFrames", ge=1, doc="xenbus only.")
    max_event_channels: int | None = xml("@maxEventChannels", ge=1, doc="xenbus only.")

    @property
    def type(self) -> str:
        return _NAME.fullmatch(self.name)[1]  # type: ignore[index]

    @property
    def index(self) -> int:
        return int(_NAME.fullmatch(self.name)[2])  # type: ignore[index]

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        if node.get("model") == "pcie-root-port":
            # libvirt numbers all of them; others are for it to number
            return node.get("index") is not None
        return node.get("model") not in _ROOTS or node.find("pcihole64") is not None

    @property
    def is_port(self) -> bool:
        """Whether it is a PCIe port of which only the number counts."""
        return self.model == "pcie-root-port" and self.model_fields_set <= {"name", "model"}
