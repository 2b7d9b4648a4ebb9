"""What a new domain gets that its manifest does not say, and names that are derived."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator
from itertools import product

from lxml import etree

from kvmstate.host import Host, acceleration
from kvmstate.kinds.virtual_machine.devices import BUS_PREFIX, Disk, Interface
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.xmlbind import document
from kvmstate.xmlbind.path import parse_path

# ACPI, without which no guest shuts down when asked; the rest is libvirt's and QEMU's own choice.
BASE = """
<domain type='kvm'>
  <name/>
  <memory/><currentMemory/><vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <features><acpi/><apic/></features>
  <devices/>
</domain>
"""
# A q35 machine hot-plugs into PCIe root ports, and libvirt makes no more than the devices at definition need.
SPARE_PCIE_PORTS = 10


def base(host: Host, spec: VirtualMachineSpec) -> etree._Element:
    """The document that a new domain's spec is written into."""
    if spec.remainder:
        return document(spec.remainder)
    node = document(BASE)
    kind = spec.type or acceleration.best(host)
    node.set("type", kind)
    if kind == "kvm" and spec.cpu is None:
        etree.SubElement(node, "cpu", mode="host-passthrough")
    machine = spec.machine or ("q35" if acceleration.is_x86(host) else None)
    if machine:
        parse_path("os/type/@machine").set(node, machine)
    if machine and "q35" in machine:
        devices = parse_path("devices").ensure(node)
        occupied = len(spec.disks) + len(spec.interfaces)
        etree.SubElement(devices, "controller", type="pci", model="pcie-root")
        for _ in range(SPARE_PCIE_PORTS + occupied):
            etree.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    return node


def derived_mac(project: str, machine: str, interface: str) -> str:
    """In QEMU's range, always the same for the same names."""
    digest = hashlib.sha256(f"{project}/{machine}/{interface}".encode()).hexdigest()
    return f"52:54:00:{digest[:2]}:{digest[2:4]}:{digest[4:6]}"


def named_interfaces(interfaces: list[Interface], seen: list[Interface]) -> Iterator[Interface]:
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


def _by_place(nameless: list[Interface], seen: list[Interface]) -> dict[int, str]:
    """The names, by identity, of those that have another MAC now: as many as there were on that network, in order."""
    found: dict[int, str] = {}
    for source in {(i.network, i.bridge) for i in nameless}:
        here, there = ([i for i in items if (i.network, i.bridge) == source] for items in (nameless, seen))
        if len(here) == len(there):
            found |= {id(i): old.name for i, old in zip(here, there, strict=True) if old.name}
    return found


def placed(disk: Disk, old: Disk | None, taken: set[str]) -> dict[str, str]:
    """Bus and device name of a disk that is new, or moves: what its manifest names, and else what goes with that."""
    if old and disk.bus in (None, old.bus) and disk.target in (None, old.target):
        return {}
    bus = disk.bus or _bus_of(disk, old)
    named = disk.target or (old.target if old else None) or ""
    target = named if named.startswith(BUS_PREFIX[bus]) else free_target(BUS_PREFIX[bus], taken)
    taken.add(target)
    return {"bus": bus, "target": target}


def _bus_of(disk: Disk, old: Disk | None) -> str:
    prefix = (disk.target or "")[:2]
    if old and old.bus and prefix == BUS_PREFIX.get(old.bus):
        return old.bus
    return {"vd": "virtio", "hd": "ide", "sd": "sata"}.get(prefix, "sata" if disk.device == "cdrom" else "virtio")


def free_target(prefix: str, taken: set[str]) -> str:
    """vda, vdb, … vdz, vdaa, …"""
    letters = string.ascii_lowercase
    names = (prefix + "".join(tail) for length in (1, 2) for tail in product(letters, repeat=length))
    return next(name for name in names if name not in taken)
