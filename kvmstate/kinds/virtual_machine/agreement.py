"""What a machine says in two places has to agree: a CPU that is pinned is there, NUMA nodes have all of its memory.

libvirt changes one of the two by itself, drops it, or refuses both, so that an edit of one would never settle. Which of
them was meant is not to be guessed: each such place is told, with the line of the other. A host's own machines agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lxml import etree

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine.devices.base import Devices, placed, spelled
from kvmstate.model.quantity import Bytes
from kvmstate.xmlbind.codecs import size

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec

Path = tuple[str | int, ...]
MIB = 1 << 20
_CELL = "cpu/numa/cell"
# Which address a disk of a bus has; virtio's are what the machine has: PCI, CCW, or nothing of the kind
_ADDRESSES = {"ide": "drive", "sata": "drive", "scsi": "drive", "fdc": "drive", "usb": "usb"}


def faults(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    """What does not agree, at the place that follows from the other one."""
    rest = None if any("numa" in path for path in spec.xml) else spec.rest
    yield from _cpus(spec)
    yield from _listed(spec)
    yield from _topology(spec)
    yield from _nodes(spec, rest)
    yield from _memory(spec, rest)
    yield from _boot(spec, devices)
    yield from _threads(spec)
    yield from _firmware(spec)
    yield from _places(spec)


def _most(spec: VirtualMachineSpec) -> tuple[str, int]:
    """How many CPUs there may be, and where that is said; 0 where nothing says so."""
    return ("maxCpus", spec.max_cpus) if spec.max_cpus else ("cpus", spec.cpus or 0)


def _cpus(spec: VirtualMachineSpec) -> Iterator[Fault]:
    name, most = _most(spec)
    for path, numbers in _numbered(spec) if most else ():
        if (last := max(numbers, default=0)) >= most:
            message = f"there is no CPU {last}: {name} is {most}, and the first one is 0"
            yield Fault(path, message, f"take CPU {last} out here, or raise {name}", beside=(name,))


def _numbered(spec: VirtualMachineSpec) -> Iterator[tuple[Path, set[int]]]:
    """Everywhere that CPUs are named by their numbers."""
    if tune := spec.cputune:
        for n, pin in enumerate(tune.vcpupin):
            yield ("cputune", "vcpupin", n, "vcpu"), {pin.vcpu}
        for name in ("vcpusched", "cachetune", "memorytune"):
            for n, each in enumerate(getattr(tune, name)):
                yield ("cputune", name, n, "vcpus"), numbers(each.vcpus)
    for n, one in enumerate(spec.individual_vcpus):
        yield ("individualVcpus", n, "id"), {one.id}
    for n, cell in enumerate(_cells(spec)):
        yield ("cpu", "numa", "cells", n, "cpus"), numbers(cell.cpus or "")


def _listed(spec: VirtualMachineSpec) -> Iterator[Fault]:
    """CPUs that are listed one by one are all there are, and as many of them are there."""
    listed = spec.individual_vcpus
    if not listed:
        return
    name, most = _most(spec)
    if most > len(listed):
        message = f"{len(listed)} CPUs are listed, and {name} is {most}"
        yield Fault(("individualVcpus",), message, "list all of them, or none", beside=(name,))
    enabled = sum(each.enabled for each in listed)
    if spec.cpus and enabled != spec.cpus:
        message = f"{enabled} CPUs are enabled, and cpus is {spec.cpus}"
        hint = "enable as many, or take this list out: libvirt chooses them then"
        yield Fault(("individualVcpus",), message, hint, beside=("cpus",))


def _topology(spec: VirtualMachineSpec) -> Iterator[Fault]:
    topology = spec.cpu.topology if spec.cpu else None
    name, most = _most(spec)
    if topology is None or not most:
        return
    found = topology.sockets * (topology.dies or 1) * (topology.clusters or 1) * topology.cores * topology.threads
    if found != most:
        message = f"sockets, dies, clusters, cores and threads multiply to {found} CPUs, and {name} is {most}"
        yield Fault(("cpu", "topology"), message, "all of them together are maxCpus, or cpus", beside=(name,))


def _cells(spec: VirtualMachineSpec) -> list[Any]:
    return list(spec.cpu.numa.cells) if spec.cpu and spec.cpu.numa else []


def _nodes(spec: VirtualMachineSpec, rest: etree._Element | None) -> Iterator[Fault]:
    """libvirt gives CPUs that no NUMA node has to the first one."""
    name, most = _most(spec)
    if cells := _cells(spec):
        found = {number for cell in cells for number in numbers(cell.cpus or "")}
        if most and found and max(found) < most and found != {*range(most)}:
            missing = min({*range(most)} - found)
            message = f"no NUMA node has CPU {missing}, and {name} is {most}"
            yield Fault(("cpu", "numa", "cells"), message, f"give CPU {missing} to one of them", beside=(name,))
    elif rest is not None:
        found = {number for cell in rest.findall(_CELL) for number in numbers(cell.get("cpus", ""))}
        if found and most and found != {*range(most)}:
            yield Fault(
                (name,),
                f"{name} is {most}, but the NUMA cells in the remainder ({_CELL}) have the CPUs "
                f"{min(found)} to {max(found)}",
                f"change the cells' cpus, too: 0 to {most - 1}",
                beside=("remainder",),
            )


def _memory(spec: VirtualMachineSpec, rest: etree._Element | None) -> Iterator[Fault]:
    """libvirt adds up what NUMA nodes and modules have, and takes that for the machine's memory."""
    name, most = ("maxMemory", spec.max_memory) if spec.max_memory else ("memory", spec.memory)
    hotplug = spec.memory_hotplug
    if hotplug and hotplug.max < most:
        message = f"memoryHotplug.max is {Bytes(hotplug.max)}, and {name} is {Bytes(most)} already"
        yield Fault(("memoryHotplug", "max"), message, "it is for all of the memory", beside=(name,))
    cells, others = _cells(spec), rest.findall(_CELL) if rest is not None else []
    modules: list[tuple[str, int]] = [(each.model, each.size) for each in spec.memories]
    if rest is not None:
        found = rest.findall("devices/memory")
        modules += [(each.get("model", ""), _size(each.find("target/size"))) for each in found]
    if not (cells or others) or any(model not in ("dimm", "nvdimm") for model, _ in modules):
        return
    total = sum(cell.memory for cell in cells) if cells else sum(int(c.get("memory", "0")) * 1024 for c in others)
    total += sum(amount for _, amount in modules)
    if not total or -(-total // MIB) == -(-most // MIB):
        return
    if cells:
        what = "the NUMA nodes and modules of memory" if modules else "the NUMA nodes"
        message = f"{what} have {Bytes(total)} together, and {name} is {Bytes(most)}"
        yield Fault(("cpu", "numa", "cells"), message, "their memory is the machine's", beside=(name,))
        return
    yield Fault(
        (name,),
        f"{name} is {Bytes(most)}, but the NUMA cells in the remainder ({_CELL}) have {Bytes(total)} together",
        "change the cells' memory, too: it is in KiB there",
        beside=("remainder",),
    )


def _boot(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    """libvirt takes one of the two; what the remainder says of it, follows."""
    if not spec.boot:
        return
    for item, at in placed(spec, devices):
        if getattr(item, "boot_order", None) is not None:
            message = f"boot does not go with bootOrder, which {spelled(at)} has"
            hint = "say the order in one way: take boot out, and give each device that boots a bootOrder"
            yield Fault(("boot",), message, hint, beside=(*at, "bootOrder"))
            return


def _threads(spec: VirtualMachineSpec) -> Iterator[Fault]:
    listed, count = [each.id for each in spec.iothreadids], spec.iothreads
    if listed and count != len(listed):
        message = f"{len(listed)} I/O threads are listed, and iothreads is {count or 'not said'}"
        yield Fault(("iothreadids",), message, "list all of them, or none", beside=("iothreads",))
    known = {*listed} or {*range(1, (count or 0) + 1)}
    if count and spec.rest is None and not spec.xml:
        for path, thread in _used(spec):
            if thread not in known:
                message = f"there is no I/O thread {thread}: iothreads is {count}"
                yield Fault(path, message, "take another one, or raise iothreads", beside=("iothreads",))


def _used(spec: VirtualMachineSpec) -> Iterator[tuple[Path, int]]:
    for alias in ("disks", "controllers"):
        for n, each in enumerate(getattr(spec, alias)):
            if each.iothread:
                yield (alias, n, "iothread"), each.iothread
    for n, pin in enumerate(spec.cputune.iothreadpin if spec.cputune else ()):
        yield ("cputune", "iothreadpin", n, "iothread"), pin.iothread


def _firmware(spec: VirtualMachineSpec) -> Iterator[Fault]:
    if spec.firmware != "bios":
        return
    if spec.loader and spec.loader.type == "pflash":
        message = "a loader of type pflash is UEFI's, and firmware is bios"
        yield Fault(("loader",), message, "take out one of them", beside=("firmware",))
    elif spec.nvram or spec.firmware_features:
        at = "nvram" if spec.nvram else "firmwareFeatures"
        yield Fault((at,), f"{at} is UEFI's, and firmware is bios", "take out one of them", beside=("firmware",))


def _places(spec: VirtualMachineSpec) -> Iterator[Fault]:
    q35 = "q35" in (spec.machine or "")
    for n, disk in enumerate(spec.disks):
        kind, _, _ = (disk.address or "").partition(":")
        wanted = _ADDRESSES.get(disk.bus or "", kind if kind not in ("drive", "usb") else "pci")
        if kind and disk.bus and kind != wanted:
            message = f"an address of type {kind} is none on bus {disk.bus}"
            yield Fault(("disks", n, "address"), message, "take it out: libvirt chooses one", ("disks", n, "bus"))
    for n, each in enumerate(spec.controllers):
        if q35 and each.name.startswith("ide"):
            message = f"{each.name}: a q35 machine has no IDE"
            yield Fault(("controllers", n, "name"), message, "take it out", beside=("machine",))


def _size(node: etree._Element | None) -> int:
    return (size("KiB").read(node, None) or 0) if node is not None else 0


def numbers(text: str) -> set[int]:
    """Those in `0-3,^2,8`."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().lstrip("^").partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            several = set(range(int(first), int(last or first) + 1))
            found = found - several if part.strip().startswith("^") else found | several
    return found
