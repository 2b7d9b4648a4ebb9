"""VirtualMachine: https://libvirt.org/formatdomain.html"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from lxml import etree
from pydantic import Field, model_validator

from kvmstate.kind import Fault, Spec
from kvmstate.kinds.virtual_machine import possible
from kvmstate.kinds.virtual_machine.cmdline import harmless_cmdline
from kvmstate.kinds.virtual_machine.devices import GUEST_AGENT, HOT_PLUG, Disk, Graphics, Interface, Rng, Serial
from kvmstate.kinds.virtual_machine.settle import settle
from kvmstate.model.effect import Effect, Scaling
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import Element, Keyed, Section, Sensitive, Xml
from kvmstate.xmlbind.codecs import same_flag, same_path, size

KIB, MIB = 1 << 10, 1 << 20
# What the XML of a running machine says anew with every start, as its guest's drivers come, or as its devices work.
VOLATILE = (
    "self::*[@id]/currentMemory",
    "@id",
    "devices//alias[not(starts-with(@name, 'ua-'))]",
    "devices/interface/target[starts-with(@dev, 'vnet')]",
    "devices/interface/source/@portid",
    "devices/*[@type='pty']/source",
    "devices/*/@tty",
    "devices/graphics[@autoport='yes']/@port",
    "devices/graphics[@autoport='yes']/@tlsPort",
    "devices/graphics/@websocket",
    "devices/channel[@type='unix']/source",
    "devices/channel/target/@state",
    "devices/disk//source/@index",
    "seclabel[@type='dynamic']",
)


def _same_memory(want: int | None, seen: int | None) -> bool:
    """QEMU takes whole MiB, and shows so what runs."""
    return want is not None and seen is not None and -(-want // MIB) == -(-seen // MIB)


def _same_machine(want: str, seen: str | None) -> bool:
    """libvirt pins `q35`, `pc` and their like to the newest version that QEMU has when the domain is defined."""
    family = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(want, want)
    return bool(want and seen and re.fullmatch(rf"{re.escape(family)}-.+", seen))


def _read_firmware(node: etree._Element, lookup: Any) -> str | None:
    """A running domain, and one defined with a loader of its own, shows the loader instead of the attribute."""
    loader = node.find("loader")
    efi = node.get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")
    return "efi" if efi else "bios"


def _write_firmware(node: etree._Element, value: str | None, lookup: Any) -> None:
    if value == "efi":
        if _read_firmware(node, lookup) != "efi":
            node.set("firmware", "efi")
        return
    node.attrib.pop("firmware", "")
    for tag in ("loader", "nvram", "firmware"):
        for child in node.findall(tag):
            node.remove(child)


def _read_cpus(node: etree._Element, lookup: Any) -> int:
    return int(node.get("current") or node.text or 1)


def _write_cpus(node: etree._Element, value: int | None, lookup: Any) -> None:
    if value is None or value == int(node.text or 0):
        node.attrib.pop("current", "")
    else:
        node.set("current", str(value))


def _read_max_cpus(node: etree._Element, lookup: Any) -> int:
    return int(node.text or 1)


def _write_max_cpus(node: etree._Element, value: int | None, lookup: Any) -> None:
    if value is None:
        return
    if (current := node.get("current")) and int(current) >= value:
        del node.attrib["current"]
    node.text = str(value)


class Topology(Section):
    sockets: Annotated[int, Xml("@sockets"), Field(ge=1)]
    cores: Annotated[int, Xml("@cores"), Field(ge=1)]
    threads: Annotated[int, Xml("@threads"), Field(ge=1)] = 1


class Cpu(Section):
    """What CPU the guest sees."""

    mode: Annotated[
        Literal["host-passthrough", "host-model", "maximum", "custom"] | None,
        Xml("@mode"),
        Field(description="custom needs a model."),
    ] = None
    model: Annotated[str | None, Xml("model"), Field(description="A named model, such as EPYC (mode custom).")] = None
    topology: Annotated[Topology | None, Xml("topology", fresh={"@threads": "1"})] = None

    @model_validator(mode="after")
    def _model(self) -> Cpu:
        if self.model and self.mode not in (None, "custom"):
            raise ValueError("cpu.model goes with mode custom")
        if self.mode == "custom" and not self.model:
            raise ValueError("cpu mode custom needs a model")
        return self


class Kernel(Section):
    """Direct kernel boot, without a boot loader."""

    path: Annotated[
        str, Xml("kernel", same=same_path), Field(pattern="^/", description="The kernel image, a file of the host.")
    ]
    initrd: Annotated[
        str | None, Xml("initrd", same=same_path), Field(pattern="^/", description="The initial RAM disk.")
    ] = None
    cmdline: Annotated[
        str | None,
        Xml("cmdline"),
        Sensitive(harmless_cmdline),
        Field(description="The kernel's command line. Shown where all of it is well known, as it may hold secrets."),
    ] = None


class VirtualMachineSpec(Spec):
    """A virtual machine."""

    element: ClassVar[str] = "domain"
    state: Annotated[
        Literal["running", "stopped", "paused", "ignore"],
        Effect.LIVE,
        Field(description="What it should be doing; ignore leaves it to people."),
    ] = "running"
    autostart: Annotated[bool | None, Effect.LIVE, Field(description="Started when the host boots.")] = None
    type: Annotated[
        Literal["kvm", "qemu"] | None,
        Xml("@type", lasting=True),
        Field(description="kvm (hardware) or qemu (emulation). Default: kvm where it works, chosen when it is made."),
    ] = None
    title: Annotated[str | None, Xml("title"), Effect.LIVE, Field(pattern="^[^\n]*$")] = None
    description: Annotated[str | None, Xml("description"), Effect.LIVE] = None
    max_cpus: Annotated[
        int | None,
        Xml("vcpu", Element(_read_max_cpus, _write_max_cpus)),
        Field(ge=1, description="How far cpus can be raised while it runs. Default: cpus."),
    ] = None
    cpus: Annotated[
        int | None,
        Xml("vcpu", Element(_read_cpus, _write_cpus)),
        Scaling(grow=Effect.LIVE, shrink=Effect.RESTART, limit="max_cpus"),
        Field(ge=1, le=4096, description="Virtual CPUs."),
    ] = None
    max_memory: Annotated[
        Size | None,
        Xml("memory", size("KiB"), same=_same_memory),
        Field(gt=0, multiple_of=KIB, description="How far memory can be raised while it runs. Default: memory."),
    ] = None
    memory: Annotated[
        Size,
        Xml("currentMemory", size("KiB"), same=_same_memory),
        Scaling(grow=Effect.LIVE, shrink=Effect.RESTART, limit="max_memory"),
        Field(gt=0, multiple_of=KIB, description="What the guest may use, in whole KiB."),
    ]
    machine: Annotated[
        str | None,
        Xml("os/type/@machine", same=_same_machine, lasting=True),
        Field(
            pattern=r"^[\w.+-]+$",
            description="q35, pc, or one with its version. Default: q35; libvirt pins the version.",
        ),
    ] = None
    firmware: Annotated[Literal["bios", "efi"] | None, Xml("os", Element(_read_firmware, _write_firmware))] = None
    kernel: Annotated[Kernel | None, Xml("os", shared=True)] = None
    cpu: Annotated[
        Cpu | None, Xml("cpu"), Field(description="Default: host-passthrough with KVM, else QEMU's own.")
    ] = None
    clock: Annotated[
        Literal["utc", "localtime"] | None,
        Xml("clock/@offset", lasting=True),
        Field(description="What the guest's hardware clock shows. Windows wants localtime."),
    ] = None
    disks: Annotated[
        list[Disk],
        Xml(
            "devices/disk",
            fresh={"driver/@name": "qemu"},
            only={"type": ("file", "block", "volume"), "device": ("disk", "cdrom")},
            whole=True,
        ),
        Keyed("name"),
        HOT_PLUG,
    ] = []
    interfaces: Annotated[
        list[Interface],
        Xml("devices/interface", only={"type": ("network", "bridge")}, whole=True),
        Keyed("name"),
        Effect.LIVE,
    ] = []
    graphics: Annotated[
        list[Graphics],
        Xml("devices/graphics", fresh={"@autoport": "yes"}, only={"type": ("vnc", "spice")}, whole=True),
        Keyed("type"),
    ] = []
    serials: Annotated[
        list[Serial],
        Xml("devices/serial", fresh={"@type": "pty"}, only={"type": ("pty",)}, whole=True),
        Keyed("port"),
        Field(description="Serial consoles."),
    ] = []
    rng: Annotated[
        Rng | None, Xml("devices/rng", fresh={"@model": "virtio", "backend/@model": "random"}, whole=True)
    ] = None
    guest_agent: Annotated[
        bool | None,
        Xml("devices", GUEST_AGENT, same=same_flag, whole=True),
        Field(description="A channel for the QEMU guest agent."),
    ] = None

    def settled(self, node: etree._Element) -> etree._Element:
        return settle(node)

    def faults(self) -> Iterable[Fault]:
        return possible.faults(self)

    @model_validator(mode="after")
    def _consistent(self) -> VirtualMachineSpec:
        if self.max_cpus and self.cpus and self.cpus > self.max_cpus:
            raise ValueError(f"cpus ({self.cpus}) is more than maxCpus ({self.max_cpus})")
        if self.max_memory and self.memory > self.max_memory:
            raise ValueError("memory is more than maxMemory")
        topology = self.cpu.topology if self.cpu else None
        most = self.max_cpus or self.cpus
        if topology and most and topology.sockets * topology.cores * topology.threads != most:
            raise ValueError("cpu.topology must multiply to maxCpus (or cpus)")
        named: dict[str, list[str | int | None]] = {
            "disk name": [d.name for d in self.disks],
            "disk target": [d.target for d in self.disks],
            "interface name": [i.name for i in self.interfaces],
            "interface mac": [i.mac for i in self.interfaces],
            "graphics type": [g.type for g in self.graphics],
            "serial port": [s.port for s in self.serials],
            "bootOrder": [*(d.boot_order for d in self.disks), *(i.boot_order for i in self.interfaces)],
        }
        for what, values in named.items():
            twice = [value for value, count in Counter(values).items() if count > 1 and value is not None]
            if twice:
                raise ValueError(f"{what} {twice[0]} stands twice")
        return self
