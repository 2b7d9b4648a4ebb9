"""After fields were written into a domain's XML: what depended on their old values goes, for libvirt to choose anew."""

from __future__ import annotations

from lxml import etree

from kvmstate.xmlbind.path import parse_path


def settle(node: etree._Element) -> etree._Element:
    _console(node)
    _boot(node)
    _machine(node)
    return node


def _console(node: etree._Element) -> None:
    """libvirt shows the first serial port once more as a console, and would make that port anew from it."""
    if node.find("devices/serial") is None:
        for target in node.findall("devices/console/target[@type='serial']"):
            if (console := target.getparent()) is not None:
                _drop(console)


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
