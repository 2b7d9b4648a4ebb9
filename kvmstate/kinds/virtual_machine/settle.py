"""After fields were written into a domain's XML: what depended on old values goes, so that libvirt chooses it."""

from __future__ import annotations

from itertools import takewhile

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.base import drop
from kvmstate.xmlbind.path import parse_path


def settle(node: etree._Element) -> etree._Element:
    _boot(node)
    _machine(node)
    _vcpus(node)
    _iothreads(node)
    _controllers(node)
    return node


def _controllers(node: etree._Element) -> None:
    """USB controllers come before PCI's in a new machine, as libvirt has them; in the order that all others have, in
    which they get their addresses."""
    root = parse_path("devices/controller[@model='pcie-root']").find(node)
    if root is None or root.get("index") is not None:
        return
    others = [each for each in node.findall("devices/controller") if each.get("type") != "pci"]
    for usb in takewhile(lambda each: each.get("type") == "usb", others):
        root.addprevious(usb)


def _vcpus(node: etree._Element) -> None:
    """<vcpus> says of each CPU what <vcpu> says of all: as many are there, and as many enabled."""
    vcpu, listed = node.find("vcpu"), node.find("vcpus")
    if vcpu is None or not (vcpu.text or "").strip():
        return
    most = int(vcpu.text or 1)
    for pin in node.findall("cputune/vcpupin"):
        if int(pin.get("vcpu", "0")) >= most:
            drop(pin)
    tune = node.find("cputune")
    if tune is not None and not len(tune):
        drop(tune)
    if listed is None:
        return
    if not len(listed):
        drop(listed)
        return
    cpus = {int(each.get("id", "0")): each for each in listed.findall("vcpu")}
    for number in [number for number in cpus if number >= most]:
        drop(cpus.pop(number))
    for number in range(most):
        if number not in cpus:
            cpus[number] = etree.SubElement(listed, "vcpu", id=str(number), enabled="no", hotpluggable="yes")
    ordered = [each for _, each in sorted(cpus.items())]
    enabled = [each for each in ordered if each.get("enabled") == "yes"]
    spare = [each for each in ordered if each.get("enabled") != "yes"]
    count = int(vcpu.get("current") or most)
    for each in enabled[count:]:
        each.set("enabled", "no")
        each.set("hotpluggable", "yes")
        each.attrib.pop("order", "")
    for each in spare[: max(0, count - len(enabled))]:
        each.set("enabled", "yes")
        if any("order" in other.attrib for other in enabled):
            each.set("order", str(max(int(other.get("order", "0")) for other in ordered) + 1))


def _iothreads(node: etree._Element) -> None:
    """libvirt lists them all, and takes what is listed for their number."""
    count, listed = node.findtext("iothreads") or "", node.find("iothreadids")
    if listed is None or not (count.isdecimal() or node.find("iothreads") is None):
        return
    ids = sorted(listed.findall("iothread"), key=lambda each: int(each.get("id", "0")))
    for each in ids[int(count or 0) :]:
        drop(each)
    if not len(listed):
        drop(listed)


def _boot(node: etree._Element) -> None:
    """libvirt takes boot orders of devices or <os><boot>, not both."""
    if any(True for _ in node.iterfind("devices/*/boot")):
        for boot in node.findall("os/boot"):
            drop(boot)


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
            drop(controller)
    for watchdog in node.findall("devices/watchdog[@model='itco']"):
        # part of q35's chipset; libvirt adds it there on its own since 9.1
        drop(watchdog)
    for address in node.findall("devices/*/address[@type='pci']"):
        drop(address)
