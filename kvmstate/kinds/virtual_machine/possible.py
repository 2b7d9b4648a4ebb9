"""What cannot be, of a machine: fields that do not go with each other, or with the remainder beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine import agreement
from kvmstate.kinds.virtual_machine.devices.base import Device, Devices, items

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec


def placed(spec: VirtualMachineSpec, devices: Devices) -> Iterator[tuple[Device, tuple[str | int, ...]]]:
    """Each device, and its path in the spec."""
    for alias, b in devices.bindings.items():
        for index, item in enumerate(items(spec, b)):
            yield item, (alias, index) if b.repeated else (alias,)


def faults(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    """Why libvirt would take these and make something else of them, or refuse them."""
    for item, at in placed(spec, devices):
        yield from item.faults(spec, at)
    yield from _boot_orders(spec, devices)
    yield from agreement.faults(spec, devices)


def _boot_orders(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    first: dict[int, str] = {}
    for alias, b in devices.bindings.items():
        for index, item in enumerate(items(spec, b)):
            order = getattr(item, "boot_order", None)
            where = f"{alias}[{index}]" if b.repeated else alias
            if order is not None and (other := first.setdefault(order, where)) != where:
                path = (alias, index, "bootOrder") if b.repeated else (alias, "bootOrder")
                yield Fault(path, f"bootOrder {order} is also that of {other}", "each device has a place of its own")
