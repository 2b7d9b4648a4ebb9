"""What a manifest says of a domain that exists: without what libvirt adds again, the same way."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, installation, networks
from kvmstate.host.connection import once
from kvmstate.kind.stamps import unstamp
from kvmstate.kinds.virtual_machine.devices.disk import Disk
from kvmstate.kinds.virtual_machine.devices.interface import Interface
from kvmstate.kinds.virtual_machine.implied import omitted, reduced, utc_clock
from kvmstate.kinds.virtual_machine.spec import DEVICES, GIVEN, VirtualMachineSpec
from kvmstate.model.reference import VolumeSource
from kvmstate.model.resource import Observed
from kvmstate.snapshots import chain
from kvmstate.xmlbind import differences, document, owning, parse
from kvmstate.xmlbind.path import parse_path
from kvmstate.xmlbind.remainder import HIDDEN

# https://libvirt.org/formatdomain.html#events-configuration; #time-keeping; #cpu-allocation
_ADDED = {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy", "vcpu/@placement": "static"}


def portable(observed: Observed, host: Host) -> tuple[VirtualMachineSpec, etree._Element]:
    if not observed.persistent:
        raise HostError("it is transient: it has no configuration that would stay", "make it persistent with `virsh`")
    node = document(observed.xml)
    for disk in chain.disks(node):
        path, format_ = host.lookup.original(disk.path, disk.format)
        if path != disk.path:
            # overlays come and go with snapshots, which no manifest has
            chain.lay(node.iterfind("devices/disk"), disk.target, path, format_)
    installation.take_out(node)
    unstamp(node)
    if (bare := reduced(host, node)) is not None:
        express = parse_path("devices/controller[@model='pcie-root']").find(node) is not None
        node, spec = bare, parse(VirtualMachineSpec, bare, host.lookup).model_copy(update=observed.calls)
        if express:
            spec = _with_ports(spec, bare)
    else:
        spec = observed.config
        _drop_added(node, host)
    _hide_passwords(node, observed)
    if any(i.network and i.network not in _networks(host) for i in spec.interfaces):
        spec = spec.model_copy(update={"interfaces": [_plugged_in(i, host) for i in spec.interfaces]})
    if absent := {tag: False for tag in GIVEN if parse_path(f"features/{tag}").find(node) is None}:
        # a new machine would have them; loaded where one is needed
        from kvmstate.kinds.virtual_machine.settings.features import Features

        spec = spec.model_copy(update={"features": (spec.features or Features()).model_copy(update=absent)})
    derived = {"max_memory": spec.memory, "max_cpus": spec.cpus, "firmware": "bios"}
    omitted = {name for name, value in derived.items() if getattr(spec, name) == value}
    spec = owning(spec, *(spec.model_fields_set - omitted))
    if "disks" in spec.model_fields_set:
        listed = DEVICES["disks"][0].find_all(node)
        spec = spec.model_copy(update={"disks": list(_disks(listed, spec.disks, host))})
    return spec, node


def _with_ports(spec: VirtualMachineSpec, node: etree._Element) -> VirtualMachineSpec:
    """PCIe ports of which only the number counts are not among its controllers; where there are none, all are
    libvirt's."""
    named = [each for each in spec.controllers if not each.is_port]
    ports = len(node.findall("devices/controller[@model='pcie-root-port']"))
    ports -= sum(each.model == "pcie-root-port" for each in named)
    spec = spec.model_copy(update={"pcie_ports": ports, "controllers": named})
    return spec if named else owning(spec, *(spec.model_fields_set - {"controllers"}))


def _plugged_in(interface: Interface, host: Host) -> Interface:
    """Where there is no such network, the remainder says which: no manifest refers to what is not there."""
    gone = interface.network is not None and interface.network not in _networks(host)
    return owning(interface, *(interface.model_fields_set - {"network"})) if gone else interface


@once
def _networks(host: Host) -> set[str]:
    return {network.name for network in networks.all_networks(host.connection)}


@once
def _emulators(host: Host) -> dict[str | None, list[str | None]]:
    """By architecture, those that libvirt takes where a machine names none."""
    found: dict[str | None, list[str | None]] = {}
    for arch in document(host.capabilities).iterfind("guest/arch"):
        found.setdefault(arch.get("name"), []).extend(each.text for each in arch.iterfind("emulator"))
    return found


def secrets(observed: Observed, host: Host) -> list[str]:
    """The places of what libvirt shows only to those who may see secrets, and no manifest keeps."""
    shown = document(observed.xml)
    if not _has_places_for_secrets(shown):
        return []
    return list(dict.fromkeys("/".join(path) for path, _, _ in differences(document(observed.whole.xml), shown)))


def _has_places_for_secrets(node: etree._Element) -> bool:
    """libvirt keeps passwords of graphics, and cookies of disks that are files of a web server: for most machines it
    need not be asked once more."""
    return node.find("devices/graphics") is not None or any(each.get("protocol") for each in node.iter("source"))


def _hide_passwords(node: etree._Element, observed: Observed) -> None:
    """That there is one is told, for a rebuilt machine to have one too; what it is stays on the host."""
    if node.find("devices/graphics") is None:
        return
    secure = document(observed.whole.xml).iterfind("devices/graphics")
    for graphics, known in zip(node.iterfind("devices/graphics"), secure, strict=True):
        if known.get("passwd") is not None:
            graphics.set("passwd", HIDDEN)


def _disks(nodes: list[etree._Element], disks: list[Disk], host: Host) -> Iterator[Disk]:
    """By its volume where there is one that is as the XML says, else by its file."""
    for node, disk in zip(nodes, disks, strict=True):
        named = _is_volume(node, disk, host)
        yield owning(disk, *(disk.model_fields_set - ({"file", "format"} if named else {"volume", "volume_by_name"})))


def _is_volume(node: etree._Element, disk: Disk, host: Host) -> bool:
    if disk.volume is None:
        return False
    format_ = parse_path("driver/@type").text(node) or ""
    if format_:
        host.lookup.learn(disk.volume, format_)
    try:
        source = host.lookup.volume_source(disk.volume)
        type_ = source.type if disk.volume_by_name else node.get("type", "")
        said = VolumeSource(type_, disk.file or "", format_)
        return source == said
    except HostError:
        # there is none, or nobody knows while the pool is not active
        return False


def _drop_added(node: etree._Element, host: Host) -> None:
    """As far as is known without asking libvirt."""
    for path, value in _ADDED.items():
        if parse_path(path).text(node) == value:
            parse_path(path).remove(node)
    utc_clock(node)
    machine = parse_path("os/type").find(node)
    arch = machine.get("arch") if machine is not None else None
    omitted(node)
    if (emulator := node.findtext("devices/emulator")) and emulator in _emulators(host).get(arch, ()):
        parse_path("devices/emulator").remove(node)
