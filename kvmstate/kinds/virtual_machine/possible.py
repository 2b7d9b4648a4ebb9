"""What cannot be, of a machine: fields that do not go with each other, or with the remainder beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine import agreement
from kvmstate.kinds.virtual_machine.devices.base import Device, Devices

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec


def placed(spec: VirtualMachineSpec, devices: Devices) -> Iterator[tuple[Device, tuple[str | int, ...]]]:
    """Each device, and its path in the spec."""
    for alias, b in devices.bindings.items():
        # of many kinds of devices a machine has few
        if value := getattr(spec, b.name, None):
            for index, item in enumerate(value if b.repeated else (value,)):
                yield item, (alias, index) if b.repeated else (alias,)


def faults(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    """Why libvirt would take these and make something else of them, or refuse them."""
    for item, at in placed(spec, devices):
        yield from item.faults(spec, at)
    yield from _boot_orders(spec, devices)
    yield from agreement.faults(spec, devices)


def _boot_orders(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    first: dict[int, tuple[str | int, ...]] = {}
    for item, at in placed(spec, devices):
        order = getattr(item, "boot_order", None)
        if order is not None and (other := first.setdefault(order, at)) != at:
            of = f"{other[0]}[{other[1]}]" if other[1:] else other[0]
            yield Fault(
                (*at, "bootOrder"), f"bootOrder {order} is also that of {of}", "each device has a place of its own"
            )
