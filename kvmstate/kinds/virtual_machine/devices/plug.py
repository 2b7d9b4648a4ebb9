"""What it costs to plug a device in while the machine runs, or out: https://libvirt.org/formatdomain.html#devices

Known before a device is loaded. What is not here takes a restart: libvirt, or QEMU, plugs no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvmstate.model.effect import Cost, Effect, When, Where


def _live_with(field: str, *values: str) -> When:
    return When(field, values, then=Effect.LIVE, otherwise=Effect.RESTART)


def _has_pci_bus(device: Any, runs: Any) -> bool:
    """Whether what runs has a bus for devices of conventional PCI, which fit into no PCIe port."""
    bridges = ("pcie-to-pci-bridge", "pci-bridge", "dmi-to-pci-bridge")
    if runs is None:
        return False
    return "q35" not in (runs.machine or "q35") or any(each.model in bridges for each in runs.controllers)


def _has_serial_bus(device: Any, runs: Any) -> bool:
    """Whether what runs has a controller for virtio's ports: libvirt adds none to a machine that runs."""
    return runs is not None and any(each.name.startswith("virtio-serial") for each in runs.controllers)


def _fits(console: Any, runs: Any) -> bool:
    return console.target == "virtio" and _has_serial_bus(console, runs)


ON_SERIAL_BUS = Where(_has_serial_bus, "there is a virtio-serial controller", Effect.LIVE, Effect.RESTART)


def _has_slot(interface: Any, runs: Any) -> bool:
    """Cards of conventional PCI, such as e1000, fit into no PCIe port."""
    return interface.model not in CONVENTIONAL or _has_pci_bus(interface, runs)


# Network cards for a bus of conventional PCI
CONVENTIONAL = {"e1000", "rtl8139", "ne2k_pci", "pcnet", "virtio-transitional"}
_ON_PCI = Where(_has_pci_bus, "there is a conventional PCI bus", then=Effect.LIVE, otherwise=Effect.RESTART)
# By tag
PLUG: Mapping[str, Cost] = {
    "channel": ON_SERIAL_BUS,
    "console": Where(_fits, "target is virtio, and there is a controller for it", Effect.LIVE, Effect.RESTART),
    "controller": _live_with("type", "scsi"),
    "disk": _live_with("bus", "virtio", "scsi", "usb"),
    "filesystem": _live_with("driver", "virtiofs"),
    "hostdev": Effect.LIVE,
    "input": _live_with("bus", "usb", "virtio"),
    "interface": Where(
        _has_slot, "its model fits into PCIe, or there is a conventional PCI bus", Effect.LIVE, Effect.RESTART
    ),
    "lease": Effect.LIVE,
    "memory": _live_with("model", "dimm", "nvdimm", "virtio-mem"),
    "redirdev": Effect.LIVE,
    "rng": Effect.LIVE,
    "serial": _live_with("target", "usb-serial"),
    "shmem": _ON_PCI,
    "vsock": Effect.LIVE,
    "watchdog": _ON_PCI,
}
# Those that take a PCIe port each, for which a new machine has some
PORTS = {"disk", "hostdev", "interface", "rng", "vsock"}
