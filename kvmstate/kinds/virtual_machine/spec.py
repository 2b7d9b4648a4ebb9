"""VirtualMachine: https://libvirt.org/formatdomain.html"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Claim, Fault, Form, Image, Plug, Spec
from kvmstate.kinds.virtual_machine import possible
from kvmstate.kinds.virtual_machine.cmdline import harmless_cmdline
from kvmstate.kinds.virtual_machine.devices.base import device, devices, registry
from kvmstate.kinds.virtual_machine.devices.channel import GUEST_AGENT, Channel
from kvmstate.kinds.virtual_machine.devices.disk import Disk
from kvmstate.kinds.virtual_machine.devices.graphics import Graphics
from kvmstate.kinds.virtual_machine.devices.interface import Interface
from kvmstate.kinds.virtual_machine.devices.rng import Rng
from kvmstate.kinds.virtual_machine.devices.serial import Serial
from kvmstate.kinds.virtual_machine.devices.tpm import Tpm
from kvmstate.kinds.virtual_machine.devices.vsock import Vsock
from kvmstate.kinds.virtual_machine.devices.watchdog import Watchdog
from kvmstate.kinds.virtual_machine.settle import settle
from kvmstate.model.effect import Effect, Scaling
from kvmstate.model.field import field
from kvmstate.model.quantity import Size
from kvmstate.model.reference import Lookup, VolumeRef
from kvmstate.xmlbind import Element, Section, Sensitive, xml
from kvmstate.xmlbind.codecs import same_flag, same_path, size

KIB, MIB = 1 << 10, 1 << 20


def _same_memory(want: int | None, seen: int | None) -> bool:
    """QEMU takes whole MiB, and shows so what runs."""
    return want is not None and seen is not None and -(-want // MIB) == -(-seen // MIB)


def _same_machine(want: str, seen: str | None) -> bool:
    """libvirt pins `q35`, `pc` and their like to the newest version that QEMU has when the domain is defined."""
    family = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(want, want)
    return bool(want and seen and re.fullmatch(rf"{re.escape(family)}-.+", seen))


def _read_firmware(node: etree._Element, lookup: Lookup) -> str | None:
    """A running domain, and one defined with a loader of its own, shows the loader instead of the attribute."""
    loader = node.find("loader")
    efi = node.get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")
    return "efi" if efi else "bios"


def _write_firmware(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value == "efi":
        if _read_firmware(node, lookup) != "efi":
            node.set("firmware", "efi")
        return
    node.attrib.pop("firmware", "")
    for tag in ("loader", "nvram", "firmware"):
        for child in node.findall(tag):
            node.remove(child)


def _read_cpus(node: etree._Element, lookup: Lookup) -> int:
    return int(node.get("current") or node.text or 1)


def _write_cpus(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    if value is None or value == int(node.text or 0):
        node.attrib.pop("current", "")
    else:
        node.set("current", str(value))


def _read_max_cpus(node: etree._Element, lookup: Lookup) -> int:
    return int(node.text or 1)


def _write_max_cpus(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    if value is None:
        return
    if (current := node.get("current")) and int(current) >= value:
        del node.attrib["current"]
    node.text = str(value)


CPUS = Element(_read_cpus, _write_cpus)
MAX_CPUS = Element(_read_max_cpus, _write_max_cpus)
FIRMWARE = Element(_read_firmware, _write_firmware)


def up_to(limit: str) -> Scaling:
    """A running machine can be given more, as far as the field `limit` says."""
    return Scaling(grow=Effect.LIVE, shrink=Effect.RESTART, limit=limit)


class Topology(Section):
    sockets: int = xml("@sockets", required=True, ge=1, doc="CPU sockets.")
    cores: int = xml("@cores", required=True, ge=1, doc="Cores of a socket.")
    threads: int = xml("@threads", default=1, ge=1, doc="Threads of a core.")


class Cpu(Section):
    """What CPU the guest sees."""

    mode: Literal["host-passthrough", "host-model", "maximum", "custom"] | None = xml(
        "@mode", doc="custom needs a model."
    )
    model: str | None = xml("model", doc="A named model, such as EPYC (mode custom).")
    topology: Topology | None = xml("topology", doc="Sockets, cores and threads that the guest sees.")

    @model_validator(mode="after")
    def _model(self) -> Self:
        if self.model and self.mode not in (None, "custom"):
            raise ValueError("cpu.model goes with mode custom")
        if self.mode == "custom" and not self.model:
            raise ValueError("cpu mode custom needs a model")
        return self


class Kernel(Section):
    """Direct kernel boot, without a boot loader."""

    path: str = xml("kernel", same=same_path, required=True, pattern="^/", doc="The kernel image, a file of the host.")
    initrd: str | None = xml("initrd", same=same_path, pattern="^/", doc="The initial RAM disk.")
    cmdline: str | None = xml(
        "cmdline",
        sensitive=Sensitive(harmless_cmdline),
        doc="The kernel's command line. Shown where all of it is well known, as it may hold secrets.",
    )


class VirtualMachineSpec(Spec):
    """A virtual machine."""

    element: ClassVar[str] = "domain"
    state: Literal["running", "stopped", "paused", "ignore"] = field(
        "running", effect=Effect.LIVE, doc="Desired power state; ignore does not manage it."
    )
    autostart: bool | None = field(effect=Effect.LIVE, doc="Started when the host boots.")
    type: Literal["kvm", "qemu"] | None = xml(
        "@type",
        lasting=True,
        doc="kvm (hardware) or qemu (emulation). Default: kvm where it works, chosen when it is made.",
    )
    title: str | None = xml("title", effect=Effect.LIVE, pattern="^[^\n]*$", doc="A short title, one line.")
    description: str | None = xml("description", effect=Effect.LIVE, doc="Free text about the machine.")
    max_cpus: int | None = xml("vcpu", MAX_CPUS, ge=1, doc="How far cpus can be raised while it runs. Default: cpus.")
    cpus: int | None = xml("vcpu", CPUS, effect=up_to("max_cpus"), ge=1, le=4096, doc="Virtual CPUs.")
    max_memory: Size | None = xml(
        "memory",
        size("KiB"),
        same=_same_memory,
        gt=0,
        multiple_of=KIB,
        doc="How far memory can be raised while it runs. Default: memory.",
    )
    memory: Size = xml(
        "currentMemory",
        size("KiB"),
        same=_same_memory,
        required=True,
        effect=up_to("max_memory"),
        gt=0,
        multiple_of=KIB,
        doc="What the guest may use, in whole KiB.",
    )
    machine: str | None = xml(
        "os/type/@machine",
        same=_same_machine,
        lasting=True,
        pattern=r"^[\w.+-]+$",
        doc="q35, pc, or one with its version. Default: q35; libvirt pins the version.",
    )
    firmware: Literal["bios", "efi"] | None = xml("os", FIRMWARE, doc="What starts the guest. Default: bios.")
    kernel: Kernel | None = xml("os", shared=True)
    cpu: Cpu | None = xml("cpu", doc="Default: host-passthrough with KVM, else QEMU's own.")
    clock: Literal["utc", "localtime"] | None = xml(
        "clock/@offset", lasting=True, doc="What the guest's hardware clock shows. Windows wants localtime."
    )
    disks: list[Disk] = devices(Disk, doc="Disks and CD-ROM drives.")
    interfaces: list[Interface] = devices(Interface, doc="Network interfaces.")
    graphics: list[Graphics] = devices(Graphics, doc="Graphical consoles, by VNC or SPICE.")
    serials: list[Serial] = devices(Serial, doc="Serial consoles.")
    rng: list[Rng] = devices(Rng)
    watchdog: Watchdog | None = device(Watchdog)
    tpm: Tpm | None = device(Tpm)
    vsock: Vsock | None = device(Vsock)
    channels: list[Channel] = devices(Channel, doc="Ports of the guest's that lead to its host.")
    guest_agent: bool | None = xml(
        "devices", GUEST_AGENT, same=same_flag, whole=True, doc="A channel for the QEMU guest agent."
    )

    def settled(self, node: etree._Element) -> etree._Element:
        for _, section in DEVICES.values():
            section.settle(node)
        return settle(node)

    def status(self) -> str:
        return self.state

    def images(self) -> Iterator[Image]:
        for number, disk in enumerate(self.disks):
            if image := disk.volume or disk.file:
                writes = disk.device == "disk" and not disk.read_only
                yield Image(("disks", number), image, writes, bool(disk.shareable))

    def plugs(self) -> Iterator[Plug]:
        for number, nic in enumerate(self.interfaces):
            yield Plug(("interfaces", number), nic.network, nic.bridge, nic.mac)

    def faults(self) -> Iterable[Fault]:
        return possible.faults(self, DEVICES)

    def claims(self) -> Iterator[Claim]:
        for item, at in possible.placed(self, DEVICES):
            yield from item.claims(self, at)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_cpus and self.cpus and self.cpus > self.max_cpus:
            raise ValueError(f"cpus ({self.cpus}) is more than maxCpus ({self.max_cpus})")
        if self.max_memory and self.memory > self.max_memory:
            raise ValueError("memory is more than maxMemory")
        topology = self.cpu.topology if self.cpu else None
        most = self.max_cpus or self.cpus
        if topology and most and topology.sockets * topology.cores * topology.threads != most:
            raise ValueError("cpu.topology must multiply to maxCpus (or cpus)")
        return self


DEVICES = registry(VirtualMachineSpec)
# What the XML of a running machine says again with every start, as its guest's drivers come, or as its devices work.
VOLATILE = (
    "self::*[@id]/currentMemory",
    "@id",
    "devices//alias[not(starts-with(@name, 'ua-'))]",
    "devices/*[@type='pty']/source",
    "devices/*/@tty",
    "seclabel[@type='dynamic']",
    *(f"devices/{section.tag}/{path}" for _, section in DEVICES.values() for path in section.volatile),
)


def machine_images(name: str, spec: Mapping[str, Any]) -> Iterator[tuple[VolumeRef | str, str | None]]:
    """The volumes and files of its disks."""
    for disk in spec.get("disks") or ():
        if volume := disk.get("volume"):
            yield VolumeRef.model_construct(pool=volume["pool"], name=volume["name"]), None
        elif path := disk.get("file"):
            yield path, disk.get("format")


FORM = Form(VirtualMachineSpec, VOLATILE, machine_images)
