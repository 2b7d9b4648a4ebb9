"""VirtualMachine: https://libvirt.org/formatdomain.html"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, ClassVar, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import UUID, Claim, Fault, Form, Image, Inlining, Inner, Plug, Spec, identity
from kvmstate.kind.health import HealthCheck
from kvmstate.kinds.virtual_machine import fw_cfg, possible
from kvmstate.kinds.virtual_machine.cmdline import harmless_cmdline
from kvmstate.kinds.virtual_machine.devices import (
    Audio,
    Channel,
    Console,
    Controller,
    Crypto,
    Filesystem,
    Graphics,
    GuestForward,
    Hostdev,
    Hub,
    Input,
    Iommu,
    Lease,
    Memballoon,
    MemoryDevice,
    Panic,
    Parallel,
    Pstore,
    Redirdev,
    RedirFilter,
    Rng,
    Shmem,
    Smartcard,
    Sound,
    Tpm,
    Video,
    Vsock,
    Watchdog,
)
from kvmstate.kinds.virtual_machine.devices.agent import GUEST_AGENT
from kvmstate.kinds.virtual_machine.devices.base import Devices, device, devices, placed
from kvmstate.kinds.virtual_machine.devices.disk import Disk
from kvmstate.kinds.virtual_machine.devices.interface import Interface
from kvmstate.kinds.virtual_machine.devices.plug import ON_SERIAL_BUS
from kvmstate.kinds.virtual_machine.devices.serial import Serial
from kvmstate.kinds.virtual_machine.settings import (
    AcpiTable,
    Bios,
    Blkiotune,
    BootMenu,
    Clock,
    CloudInit,
    Combustion,
    Cpu,
    Cputune,
    DefaultIoThread,
    Features,
    FirmwareFeature,
    HostBoot,
    IdMaps,
    Ignition,
    Install,
    IoThread,
    KeyWrap,
    LaunchSecurity,
    Loader,
    MemoryBacking,
    MemoryHotplug,
    Memtune,
    Numatune,
    Nvram,
    Perf,
    Power,
    Qemu,
    Resource,
    SecurityLabel,
    Sysinfo,
    ThrottleGroup,
    Vcpu,
)
from kvmstate.kinds.virtual_machine.settings.names import MachineName
from kvmstate.kinds.virtual_machine.settle import settle
from kvmstate.model import resource as resources
from kvmstate.model.effect import Effect, Scaling, Where
from kvmstate.model.field import field
from kvmstate.model.quantity import Size
from kvmstate.model.reference import Lookup, VolumeRef
from kvmstate.xmlbind import Element, Section, Sensitive, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, same_case, same_flag, same_path, size
from kvmstate.xmlbind.path import parse_path

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
    if value is None and "firmware" not in node.attrib:
        # a loader of its own, which has a field
        return
    node.attrib.pop("firmware", "")
    for tag in ("loader", "nvram", "firmware"):
        for child in node.findall(tag):
            node.remove(child)


def _ports(devices: etree._Element) -> list[etree._Element]:
    """Those that follow the root, of which only the number counts; see `controllers` for others."""
    if ROOT.find(devices) is None:
        return []
    ports = (each for each in devices.iterfind("controller") if each.get("model") == "pcie-root-port")
    return [port for port in ports if port.find("target[@hotplug]") is None]


def _read_ports(devices: etree._Element, lookup: Lookup) -> int | None:
    return len(_ports(devices)) or None


def _write_ports(devices: etree._Element, value: int | None, lookup: Lookup) -> None:
    """New ones stand where libvirt has them; it says the rest, such as their index."""
    there = _ports(devices)
    missing = ["pcie-root-port"] * ((value or 0) - len(there))
    root = ROOT.find(devices)
    if missing and root is None:
        missing.insert(0, "pcie-root")
    others = devices.iterfind("controller")
    usb = takewhile(lambda each: each.get("type") == "usb", others)
    before = [*usb] if root is None else [root, *there]
    first = devices.find("controller")
    start = len(devices) if first is None else devices.index(first)
    place = devices.index(before[-1]) + 1 if before else start
    for number, model in enumerate(missing, place):
        devices.insert(number, etree.Element("controller", type="pci", model=model))


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


ROOT = parse_path("controller[@model='pcie-root']")
PCIE_PORTS = Element(_read_ports, _write_ports)
TEMPLATE = "^[^@/]+(@[1-9][0-9]*)?$"
CPUSET = r"^\^?[0-9]+(-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)*$"
BootDevice = Literal["hd", "cdrom", "network", "fd"]
OnPoweroff = Literal["destroy", "restart", "preserve", "rename-restart"]
OnCrash = Literal["destroy", "restart", "preserve", "rename-restart", "coredump-destroy", "coredump-restart"]
CPUS = Element(_read_cpus, _write_cpus)
# The features that a new machine has where its manifest does not take them away. Without ACPI no guest shuts down when
# asked
GIVEN = ("acpi", "apic")
# QEMU's emulation ends with a CPU that is taken out while it runs
CPU_COUNT = Scaling(grow=Effect.LIVE, shrink=Effect.RESTART, limit="max_cpus")
MAX_CPUS = Element(_read_max_cpus, _write_max_cpus)
FIRMWARE = Element(_read_firmware, _write_firmware)


def _is_of_modules(want: Any, runs: Any) -> bool:
    """Whether the memory differs by what is plugged in, or out, and nothing else."""
    if runs is None or want.max_memory is None or "memories" not in want.model_fields_set:
        return False
    wanted, present = (sum(each.size for each in spec.memories) for spec in (want, runs))
    return wanted != present and _same_memory(want.max_memory - wanted, (runs.max_memory or 0) - present)


def _template(said: Mapping[str, Any]) -> str:
    return str(said.get("template", "")).partition("@")[0]


def _named(items: object) -> list[Any]:
    return [item for item in items if isinstance(item, dict) and "name" in item] if isinstance(items, list) else []


class Kernel(Section):
    """Direct kernel boot, without a boot loader."""

    path: str = xml("kernel", same=same_path, required=True, pattern="^/", doc="The kernel image, a file of the host.")
    shim: str | None = xml("shim", same=same_path, pattern="^/", doc="What checks the kernel for secure boot.")
    initrd: str | None = xml("initrd", same=same_path, pattern="^/", doc="The initial RAM disk.")
    cmdline: str | None = xml(
        "cmdline",
        sensitive=Sensitive(harmless_cmdline),
        doc="The kernel's command line. Shown where all of it is well known, as it may hold secrets.",
    )


class VirtualMachineSpec(Spec):
    """A virtual machine."""

    element: ClassVar[str] = "domain"
    state: Literal["running", "stopped", "paused", "saved", "ignore"] = field(
        "running",
        effect=Effect.LIVE,
        doc="Desired power state. saved is off, and the memory of what ran is on disk: it goes on from there. ignore "
        "does not manage it.",
    )
    autostart: bool | None = field(effect=Effect.LIVE, doc="Started when the host boots.")
    host_boot: HostBoot | None = xml(
        "metadata/host-boot:boot",
        effect=Effect.LIVE,
        doc="Started when the host boots, after others, by `kvmstate host boot`; instead of autostart.",
    )
    on_host_shutdown: list[Literal["save", "shutdown", "poweroff"]] = xml_list(
        "metadata/host-shutdown:shutdown/host-shutdown:try/@how",
        effect=Effect.LIVE,
        doc="What `kvmstate host shutdown` tries when the host shuts down, one after the other. Default: nothing.",
        examples=[["save", "shutdown", "poweroff"]],
    )
    type: Literal["kvm", "qemu"] | None = xml(
        "@type",
        lasting=True,
        doc="kvm (hardware) or qemu (emulation). Default: kvm where it works, chosen when it is made.",
    )
    title: str | None = xml("title", effect=Effect.LIVE, pattern="^[^\n]*$", doc="A short title, one line.")
    description: str | None = xml("description", effect=Effect.LIVE, doc="Free text about the machine.")
    max_cpus: int | None = xml("vcpu", MAX_CPUS, ge=1, doc="How far cpus can be raised while it runs. Default: cpus.")
    cpus: int | None = xml("vcpu", CPUS, effect=CPU_COUNT, ge=1, le=4096, doc="Virtual CPUs.")
    max_memory: Size | None = xml(
        "memory",
        size("KiB"),
        same=_same_memory,
        effect=Where(_is_of_modules, "only memory devices come or go", Effect.LIVE, Effect.RESTART),
        gt=0,
        multiple_of=KIB,
        doc="How far memory can be raised while it runs. Default: memory.",
    )
    memory: Size = xml(
        "currentMemory",
        size("KiB"),
        same=_same_memory,
        required=True,
        effect=Scaling(Effect.LIVE, Effect.LIVE, limit="max_memory", beyond=Effect.RESTART),
        gt=0,
        multiple_of=KIB,
        doc="What the guest may use, in whole KiB.",
    )
    machine: str | None = xml(
        "os/type/@machine",
        same=_same_machine,
        lasting=True,
        pattern=r"^[A-Za-z0-9_.+-]+$",
        doc="q35, pc, or one with its version. Default: q35; libvirt pins the version.",
    )
    arch: str | None = xml(
        "os/type/@arch", lasting=True, effect=Effect.REPLACE, pattern=r"^[A-Za-z0-9_]+$", doc="Default: the host's."
    )
    emulator: str | None = xml(
        "devices/emulator", same=same_path, lasting=True, pattern="^/", doc="Which QEMU. Default: libvirt's choice."
    )
    uuid: str | None = identity()
    genid: str | None = xml("genid", same=same_case, lasting=True, pattern=UUID, doc="By which Windows knows a copy.")
    osinfo: str | None = xml(
        "metadata/libosinfo:libosinfo/libosinfo:os/@id",
        effect=Effect.LIVE,
        pattern="^http",
        doc="The guest's system, for other tools: https://libosinfo.org",
    )
    loader: Loader | None = xml("os/loader", doc="The firmware's image.")
    nvram: Nvram | None = xml("os/nvram", doc="The firmware's variables.")
    firmware: Literal["bios", "efi"] | None = xml("os", FIRMWARE, doc="What starts the guest. Default: bios.")
    firmware_features: list[FirmwareFeature] = xml_list(
        "os/firmware/feature",
        key="name",
        # from 11 on libvirt adds what the firmware has besides
        open=True,
        doc="Of the firmware that libvirt chooses; what is not named is its choice.",
    )
    boot: list[BootDevice] = xml_list(
        "os/boot/@dev", doc="From which kind of device, in this order; instead of their bootOrder."
    )
    boot_menu: BootMenu | None = xml("os/bootmenu", doc="Whether whoever looks may choose.")
    bios: Bios | None = xml("os/bios")
    smbios: Literal["emulate", "host", "sysinfo"] | None = xml(
        "os/smbios/@mode", doc="Where what SMBIOS tells the guest comes from; sysinfo: see there."
    )
    sysinfo: Sysinfo | None = xml("sysinfo", doc="What SMBIOS tells the guest.")
    acpi_table: str | None = xml(
        "os/acpi/table[@type='slic']", same=same_path, pattern="^/", doc="A table of type slic, a file of the host."
    )
    acpi_tables: list[AcpiTable] = xml_list("os/acpi/table", key="type", doc="Other tables for the guest's ACPI.")
    kernel: Kernel | None = xml("os", shared=True)
    dtb: str | None = xml(
        "os/dtb", same=same_path, pattern="^/", doc="A device tree, a file of the host (ARM, RISC-V)."
    )
    cpu: Cpu | None = xml("cpu", doc="Default: host-passthrough with KVM, else QEMU's own.")
    clock: Clock | None = xml("clock", doc="What the guest's hardware clock shows: `localtime` for Windows, or more.")
    features: Features | None = xml("features", given=GIVEN, doc="Features of the hypervisor.")
    pm: Power | None = xml("pm", doc="Whether the guest may sleep.")
    on_poweroff: OnPoweroff | None = xml("on_poweroff", lasting=True, doc="When the guest ends. Default: destroy.")
    on_reboot: OnPoweroff | None = xml("on_reboot", lasting=True, doc="When the guest reboots. Default: restart.")
    on_crash: OnCrash | None = xml("on_crash", lasting=True, doc="When the guest crashes. Default: destroy.")
    on_lockfailure: Literal["poweroff", "restart", "pause", "ignore"] | None = xml(
        "on_lockfailure", doc="When the lock manager loses its disks' locks."
    )
    vcpu_placement: Literal["static", "auto"] | None = xml(
        "vcpu/@placement", lasting=True, doc="auto asks numad. Default: static."
    )
    cpuset: str | None = xml("vcpu/@cpuset", pattern=CPUSET, doc="The host's CPUs that it runs on, such as 0-3,^2.")
    individual_vcpus: list[Vcpu] = xml_list(
        "vcpus/vcpu", key="id", doc="Which of its virtual CPUs are there, one by one."
    )
    iothreads: int | None = xml(
        "iothreads", effect=Effect.LIVE, ge=1, doc="How many threads of QEMU's serve its disks."
    )
    iothreadids: list[IoThread] = xml_list(
        "iothreadids/iothread", key="id", effect=Effect.LIVE, doc="These threads, one by one."
    )
    default_iothread: DefaultIoThread | None = xml("defaultiothread", doc="QEMU's main loop, where it serves disks.")
    # not live, though libvirt has calls for it: libvirtd 11.3 ends when a group that one of them has added is changed
    throttle_groups: list[ThrottleGroup] = xml_list(
        "throttlegroups/throttlegroup", key="name", doc="Limits that disks share, by their `throttleFilters`."
    )
    cputune: Cputune | None = xml("cputune", in_parts=True, doc="Where its CPUs run, and how much.")
    numatune: Numatune | None = xml("numatune", in_parts=True, doc="From where in the host its memory comes.")
    memtune: Memtune | None = xml("memtune", in_parts=True, doc="How much of the host's memory it may take.")
    blkiotune: Blkiotune | None = xml("blkiotune", in_parts=True, doc="How much of the host's disks it may take.")
    memory_backing: MemoryBacking | None = xml("memoryBacking", doc="What its memory is on the host.")
    memory_hotplug: MemoryHotplug | None = xml("maxMemory", doc="Room for memory devices.")
    memory_dump: bool | None = xml(
        "memory/@dumpCore", ON_OFF, doc="Whether a dump of the host's process has its memory as well."
    )
    perf: Perf | None = xml("perf", in_parts=True, doc="Events of the host's CPU that are counted.")
    resource: Resource | None = xml("resource", doc="Where it is accounted.")
    seclabels: list[SecurityLabel] = xml_list("seclabel", doc="Under which labels it runs.")
    launch_security: LaunchSecurity | None = xml("launchSecurity", doc="Memory that the host cannot read.")
    idmap: IdMaps | None = xml("idmap", doc="Whose files these are, inside and outside of a container.")
    keywrap: list[KeyWrap] = xml_list("keywrap/cipher", key="name", doc="Keys of s390x' CPUs that are wrapped.")
    qemu: Qemu | None = xml(
        ".", shared=True, doc="What is passed on to QEMU past libvirt, which answers for none of it."
    )
    controllers: list[Controller] = devices(Controller, open=True, doc="Those that are not as libvirt would have them.")
    pcie_ports: int | None = xml(
        "devices",
        PCIE_PORTS,
        same=lambda want, seen: want is not None and (seen or 0) >= want,
        lasting=True,
        ge=0,
        le=200,
        doc="PCIe root ports at least, into which devices are plugged; libvirt adds what others need, and of 0 has "
        "all. Default: ten more than devices that may come and go while it runs.",
    )
    template: str | None = field(
        pattern=TEMPLATE,
        effect=Effect.NONE,
        doc="The template that it is cloned from, or a version of it (NAME@2): what is said nowhere here is as there.",
        examples=["debian-12", "debian-12@2"],
    )
    clone: Literal["linked", "full"] | None = field(
        effect=Effect.NONE, doc="How its disks begin, when it is made: see the template's."
    )
    inherited: list[str] = field([], effect=Effect.NONE, doc="Written by kvmstate: what it has from its template.")
    domain_of: str | None = field(
        effect=Effect.NONE, doc="Written by kvmstate: the version of a template that it is kept for. It never runs."
    )
    cloud_init: CloudInit | None = field(
        doc="What it is told at its first boot: who may log in, its name, its network, what to install."
    )
    ignition: Ignition | None = field(doc="What it is told by Ignition at its first boot.")
    ignition_text: str | None = xml(
        ".",
        Element(fw_cfg.read, fw_cfg.write),
        sensitive=Sensitive(),
        effect=Effect.NONE,
        doc="What `ignition` has the guest read by the firmware's configuration device, when it boots.",
    )
    combustion: Combustion | None = field(doc="A script that it runs at its first boot, by combustion.")
    install: Install | None = field(
        effect=Effect.NONE,
        doc="An installer that it runs first, when it is made with an empty disk; then it is started from that.",
    )
    depends_on: list[MachineName] = field(
        [],
        ref="domain",
        effect=Effect.NONE,
        doc="Machines that are made and started before it, and waited for as their own waitFor says.",
        examples=[["db-1"]],
    )
    wait_for: HealthCheck | None = field(
        effect=Effect.NONE,
        doc="What is waited for when kvmstate has started it: until then, what needs it waits too, and it fails where "
        "that does not come in time.",
    )
    disks: list[Disk] = devices(Disk, doc="Disks and CD-ROM drives.")
    interfaces: list[Interface] = devices(Interface, doc="Network interfaces.")
    graphics: list[Graphics] = devices(Graphics, doc="Graphical consoles, by VNC or SPICE.")
    serials: list[Serial] = devices(Serial, doc="Serial consoles.")
    parallels: list[Parallel] = devices(Parallel, doc="Parallel ports.")
    consoles: list[Console] = devices(Console, doc="Consoles that are not serial ports.")
    video: list[Video] = devices(Video)
    sound: list[Sound] = devices(Sound)
    audio: list[Audio] = devices(Audio)
    inputs: list[Input] = devices(Input, doc="Keyboards, mice and tablets.")
    hostdevs: list[Hostdev] = devices(Hostdev, doc="Devices of the host's.")
    filesystems: list[Filesystem] = devices(Filesystem, doc="Folders of the host's.")
    redirdevs: list[Redirdev] = devices(Redirdev, doc="USB ports for devices from elsewhere.")
    redir_filter: RedirFilter | None = device(RedirFilter, doc="Which USB devices `redirdevs` take.")
    smartcards: list[Smartcard] = devices(Smartcard)
    shmems: list[Shmem] = devices(Shmem, doc="Memory that guests share.")
    memories: list[MemoryDevice] = devices(MemoryDevice, doc="Memory that is plugged in.")
    hubs: list[Hub] = devices(Hub, doc="USB hubs.")
    leases: list[Lease] = devices(Lease, doc="Locks that it has to have.")
    panics: list[Panic] = devices(Panic, doc="By which the guest tells that it has crashed.")
    cryptos: list[Crypto] = devices(Crypto, doc="Encryption for the guest.")
    memballoon: Memballoon | None = device(Memballoon, lasting=True)
    iommu: Iommu | None = device(Iommu)
    pstore: Pstore | None = device(Pstore)
    rng: list[Rng] = devices(Rng)
    watchdog: Watchdog | None = device(Watchdog)
    tpm: Tpm | None = device(Tpm)
    vsock: Vsock | None = device(Vsock)
    channels: list[Channel] = devices(Channel, doc="Ports of the guest's that lead to its host.")
    guest_forwards: list[GuestForward] = devices(
        GuestForward, doc="Addresses in the guest's network that lead to its host."
    )
    guest_agent: bool | None = xml(
        "devices",
        GUEST_AGENT,
        same=same_flag,
        whole=True,
        effect=ON_SERIAL_BUS,
        doc="A channel for the QEMU guest agent.",
    )

    def settled(self, node: etree._Element) -> etree._Element:
        for section in DEVICES.loaded():
            section.settle(node)
        for alias, b in DEVICES.bindings.items():
            if b.name in self.model_fields_set and getattr(self, b.name) is None:
                DEVICES[alias][1].left(node)
        features = node.find("features")
        if self.remainder is None and features is not None and not len(features):
            # libvirt says nothing of none at all
            node.remove(features)
        return settle(node)

    def status(self) -> str:
        return "stopped" if self.state == "saved" else self.state

    def images(self) -> Iterator[Image]:
        for number, disk in enumerate(self.disks):
            if image := disk.volume or disk.file:
                writes = disk.device == "disk" and not disk.read_only
                yield Image(("disks", number), image, writes, bool(disk.shareable))

    def shown(self, encrypted: Callable[[VolumeRef], Any]) -> Iterable[Fault]:
        for disk in self.disks:
            if disk.volume and disk.encryption is None and (how := encrypted(disk.volume)):
                # few machines have one
                from kvmstate.kinds.virtual_machine.devices.network_disk import DiskEncryption

                disk.encryption = DiskEncryption.model_validate(how)
        return ()

    def plugs(self) -> Iterator[Plug]:
        for number, nic in enumerate(self.interfaces):
            yield Plug(("interfaces", number), nic.network, nic.bridge, nic.mac)

    def reads(self) -> Iterator[tuple[tuple[str | int, ...], Inlining]]:
        for at, told in (("cloudInit", self.cloud_init), ("ignition", self.ignition), ("combustion", self.combustion)):
            if told:
                yield (at,), told

    def apart(self, resource: resources.Resource, project: str) -> tuple[Self, Sequence[Inner]]:
        spec, found = self, []
        if self.cloud_init or self.ignition or self.combustion:
            from kvmstate.kinds.virtual_machine import first_boot  # few machines say something of it

            spec = first_boot.told(self, resource.metadata.name, project)
        disks = list(spec.disks)
        for number, disk in enumerate(disks):
            if disk.create:
                disks[number], volume = disk.apart(resource)
                own = number < len(self.disks)
                found.append(
                    Inner(("disks", number, "create") if own else (first_boot.place(self, disk.name),), volume)
                )
        spec = spec.model_copy(update={"disks": disks}) if found else self
        if any(nic.security_groups is not None for nic in spec.interfaces):
            from kvmstate.kinds.virtual_machine import security_groups  # few machines have some

            interfaces, filters = security_groups.told(spec.interfaces, resource)
            return spec.model_copy(update={"interfaces": interfaces}), [*found, *filters]
        return spec, found

    def as_applied(self, written: Mapping[str, Any], applied: Mapping[str, Any], own: Mapping[str, Any]) -> Self:
        from kvmstate.kinds.virtual_machine.heir import kept  # few machines have a template

        names = {*own, *(f"{key}[{item['name']}]" for key, items in own.items() for item in _named(items))}
        made = kept(written, applied, names) if _template(applied) == _template(written) else written
        return self if made == written else self.model_validate(made)

    def twin(
        self, own: Mapping[str, Any], name: str, formats: Mapping[str, str], sysprep: bool
    ) -> tuple[dict[str, Any], list[str]]:
        from kvmstate.kinds.virtual_machine.twin import twin  # one command asks

        return twin(self, own, name, formats, sysprep)

    def disk_volume(self, name: str | None) -> VolumeRef | None:
        found = (disk.volume for disk in self.disks if disk.volume and disk.device == "disk")
        return next(found, None) if name is None else next((d.volume for d in self.disks if d.name == name), None)

    def takes(self) -> bool:
        return any(screen.password for screen in self.graphics)

    def faults(self) -> Iterable[Fault]:
        return possible.faults(self, DEVICES)

    def claims(self) -> Iterator[Claim]:
        for item, at in placed(self, DEVICES):
            yield from item.claims(self, at)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_cpus and self.cpus and self.cpus > self.max_cpus:
            raise ValueError(f"cpus ({self.cpus}) is more than maxCpus ({self.max_cpus})")
        if self.max_memory and self.memory > self.max_memory:
            raise ValueError("memory is more than maxMemory")
        if self.qemu and self.qemu.arguments and (self.ignition or self.ignition_text):
            raise ValueError("ignition is told by arguments of QEMU's, beside which qemu.arguments has no place")
        if self.host_boot and self.autostart:
            raise ValueError("autostart has libvirt start it at once, and hostBoot after others: say one of them")
        return self


DEVICES = Devices(VirtualMachineSpec)
# What the XML of a running machine says again with every start, as its guest's drivers come, or as its devices work.
VOLATILE = (
    "self::*[@id]/currentMemory",
    "@id",
    "devices//alias[not(starts-with(@name, 'ua-'))]",
    "devices/*[@type='pty']/source",
    "devices/*/@tty",
    "seclabel[@type='dynamic']",
    *(f"devices/{device.tag}/{path}" for device in DEVICES.known() for path in device.volatile),
)


def machine_images(name: str, spec: Mapping[str, Any]) -> Iterator[tuple[VolumeRef | str, str | None]]:
    """The volumes and files of its disks."""
    for disk in spec.get("disks") or ():
        if volume := disk.get("volume"):
            yield VolumeRef.of(volume["pool"], volume["name"]), None
        elif path := disk.get("file"):
            yield path, disk.get("format")


FORM = Form(VirtualMachineSpec, VOLATILE, machine_images)
