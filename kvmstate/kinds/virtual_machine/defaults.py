"""What a new domain gets that its manifest does not say."""

from __future__ import annotations

from itertools import count

from lxml import etree

from kvmstate.host import Host, acceleration
from kvmstate.kinds.virtual_machine.devices.base import drop, items, parent_of
from kvmstate.kinds.virtual_machine.devices.plug import PORTS
from kvmstate.kinds.virtual_machine.spec import DEVICES, GIVEN, VirtualMachineSpec
from kvmstate.xmlbind import document
from kvmstate.xmlbind.path import parse_path

# All but these features is libvirt's and QEMU's own choice.
BASE = f"""
<domain type='kvm'>
  <name/>
  <memory/><currentMemory/><vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <features>{"".join(f"<{name}/>" for name in GIVEN)}</features>
  <devices/>
</domain>
"""
# A q35 machine hot-plugs into PCIe root ports, and libvirt makes no more than the devices at definition need.
SPARE_PCIE_PORTS = 10


def obvious(node: etree._Element) -> None:
    """Take out of a remainder what every machine has: see `base`."""
    kind = node.find("os/type")
    if kind is not None and kind.text == "hvm" and not kind.attrib:
        os = parent_of(kind)
        drop(kind)
        if not (len(os) or os.attrib):
            drop(os)


def _leave_free(devices: etree._Element, named: set[int]) -> None:
    """Have no port at the places of controllers that the manifest names."""
    if named:
        free = (index for index in count() if index not in named)
        for controller, index in zip(devices, free, strict=False):
            controller.set("index", str(index))


def base(host: Host, spec: VirtualMachineSpec) -> etree._Element:
    """The document that a new domain's spec is written into."""
    if spec.remainder:
        node = document(spec.remainder)
        if parse_path("os/type").find(node) is None:
            parse_path("os/type").ensure(node).text = "hvm"
        return node
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
        there = ((len(items(spec, b)), alias) for alias, b in DEVICES.bindings.items())
        occupied = sum(count for count, alias in there if count and DEVICES[alias][1].tag in PORTS)
        ports = SPARE_PCIE_PORTS + occupied if spec.pcie_ports is None else spec.pcie_ports
        named = {each.index for each in spec.controllers if each.type == "pci"}
        root = ["pcie-root"] if 0 not in named else []
        # without any, all are libvirt's
        for model in (*root, *["pcie-root-port"] * ports) if ports else ():
            etree.SubElement(devices, "controller", type="pci", model=model)
        _leave_free(devices, named)
    return node
