"""After fields were written into a domain's XML: what depended on their old values goes, for libvirt to choose anew."""

from __future__ import annotations

from lxml import etree

from kvmstate.kinds.virtual_machine.defaults import BUS_PREFIX, free_target
from kvmstate.xmlbind.path import parse_path


def settle(node: etree._Element) -> etree._Element:
    _disks(node)
    _boot(node)
    _machine(node)
    return node


def _disks(node: etree._Element) -> None:
    """A disk that moved to another bus has another kind of device name, and no longer its old address."""
    targets = node.findall("devices/disk/target")
    taken = {t.get("dev", "") for t in targets}
    for target in targets:
        bus, dev = target.get("bus", ""), target.get("dev", "")
        address = target.find("../address")
        if address is not None and (address.get("type") == "pci") != (bus == "virtio"):
            _drop(address)
        if bus in BUS_PREFIX and not dev.startswith(BUS_PREFIX[bus]):
            target.set("dev", free_target(BUS_PREFIX[bus], taken))
            taken.add(target.get("dev", ""))


def _boot(node: etree._Element) -> None:
    """libvirt takes boot orders of devices or <os><boot>, not both."""
    if any(True for _ in node.iterfind("devices/*/boot")):
        for boot in node.findall("os/boot"):
            _drop(boot)


def _machine(node: etree._Element) -> None:
    """Another machine type has other buses: PCI addresses and the controllers that belong to the old one go."""
    machine = parse_path("os/type/@machine").text(node) or ""
    root = parse_path("devices/controller[@model='pcie-root']").find(node)
    old_root = parse_path("devices/controller[@model='pci-root']").find(node)
    if not ((machine.startswith("q35") or "-q35" in machine) and old_root is not None) and not (
        (machine.startswith("pc-i440fx") or machine == "pc") and root is not None
    ):
        return
    for controller in node.findall("devices/controller"):
        if controller.get("type") in ("pci", "usb", "ide", "sata"):
            _drop(controller)
    for watchdog in node.findall("devices/watchdog[@model='itco']"):
        # part of q35's chipset; libvirt adds it there on its own since 9.1
        _drop(watchdog)
    for address in node.findall("devices/*/address[@type='pci']"):
        _drop(address)


def _drop(node: etree._Element) -> None:
    if (parent := node.getparent()) is not None:
        parent.remove(node)
