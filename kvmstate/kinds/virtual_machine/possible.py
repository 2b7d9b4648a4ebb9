"""What cannot be, of a machine: fields that do not go with each other, or with the remainder beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine import agreement
from kvmstate.kinds.virtual_machine.devices.base import Devices, placed, spelled

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec


def faults(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    """Why libvirt would take these and make something else of them, or refuse them."""
    for item, at in placed(spec, devices):
        yield from item.faults(spec, at)
    yield from _boot_orders(spec, devices)
    yield from agreement.faults(spec, devices)
    if spec.install:
        from kvmstate.kinds.virtual_machine import install  # few machines are installed

        yield from install.faults(spec)


def _boot_orders(spec: VirtualMachineSpec, devices: Devices) -> Iterator[Fault]:
    first: dict[int, tuple[str | int, ...]] = {}
    for item, at in placed(spec, devices):
        order = getattr(item, "boot_order", None)
        if order is not None and (other := first.setdefault(order, at)) != at:
            message = f"bootOrder {order} is also that of {spelled(other)}"
            yield Fault((*at, "bootOrder"), message, "each device has a place of its own")
