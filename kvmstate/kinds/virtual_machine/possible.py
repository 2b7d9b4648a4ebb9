"""What cannot be, of a machine: fields that do not go with each other, or with the remainder beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lxml import etree

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine.devices.base import Device, Devices, items
from kvmstate.model.quantity import Bytes
from kvmstate.xmlbind.codecs import size

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec

MIB = 1 << 20
_CELL = "cpu/numa/cell"


def placed(spec: VirtualMachineSpec, devices: Devices) -> Iterator[tuple[Device, tuple[str | int, ...]]]:
    """Each device, and its path in the spec."""
    for alias, (b, _) in devices.items():
        for index, item in enumerate(items(spec, b)):
            yield item, (alias, index) if b.repeated else (alias,)


def faults(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    """Why libvirt would take these and make something else of them, or refuse them."""
    for item, at in placed(spec, devices):
        yield from item.faults(spec, at)
    yield from _boot_orders(spec, devices)
    if spec.rest is not None and not any("numa" in path for path in spec.xml):
        yield from _against_cells(spec, spec.rest)


def _boot_orders(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    first: dict[int, str] = {}
    for alias, (b, _) in devices.items():
        for index, item in enumerate(items(spec, b)):
            order = getattr(item, "boot_order", None)
            where = f"{alias}[{index}]" if b.repeated else alias
            if order is not None and (other := first.setdefault(order, where)) != where:
                path = (alias, index, "bootOrder") if b.repeated else (alias, "bootOrder")
                yield Fault(path, f"bootOrder {order} is also that of {other}", "each device has a place of its own")


def _against_cells(spec: VirtualMachineSpec, rest: etree._Element) -> Iterator[Fault]:
    """libvirt adds the memory of NUMA cells up, and gives CPUs that none has to the first one."""
    cells, modules = rest.findall(_CELL), rest.findall("devices/memory")
    if cells and all(each.get("model") in ("dimm", "nvdimm") for each in modules):
        total = sum(int(cell.get("memory", "0")) * 1024 for cell in cells)
        total += sum(_size(each.find("target/size")) for each in modules)
        most = spec.max_memory or spec.memory
        if total and -(-total // MIB) != -(-most // MIB):
            name = "maxMemory" if spec.max_memory else "memory"
            yield Fault(
                (name,),
                f"{name} is {Bytes(most)}, but the NUMA cells in the remainder ({_CELL}) have {Bytes(total)} together",
                "change the cells' memory, too: it is in KiB there",
            )
    numbers = {number for cell in cells for number in _numbers(cell.get("cpus", ""))}
    cpus = spec.max_cpus or spec.cpus
    if numbers and cpus and numbers != {*range(cpus)}:
        name = "maxCpus" if spec.max_cpus else "cpus"
        yield Fault(
            (name,),
            f"{name} is {cpus}, but the NUMA cells in the remainder ({_CELL}) have the CPUs "
            f"{min(numbers)} to {max(numbers)}",
            f"change the cells' cpus, too: 0 to {cpus - 1}",
        )


def _size(node: etree._Element | None) -> int:
    return (size("KiB").read(node, None) or 0) if node is not None else 0


def _numbers(text: str) -> set[int]:
    """Those in `0-3,^2,8`."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().lstrip("^").partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            numbers = set(range(int(first), int(last or first) + 1))
            found = found - numbers if part.strip().startswith("^") else found | numbers
    return found
