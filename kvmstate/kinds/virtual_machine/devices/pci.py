"""PCI devices of the host's, by where they are."""

from __future__ import annotations

from lxml import etree

from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element


def _read_pci(node: etree._Element, lookup: Lookup) -> str | None:
    if not all(node.get(name) for name in ("bus", "slot", "function")):
        return None
    domain, bus, slot, function = (int(node.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _write_pci(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    for name in ("domain", "bus", "slot", "function"):
        node.attrib.pop(name, "")
    if value is not None:
        front, _, function = value.partition(".")
        for name, part, width in zip(("domain", "bus", "slot"), front.split(":"), (4, 2, 2), strict=True):
            node.set(name, f"0x{int(part, 16):0{width}x}")
        node.set("function", f"0x{int(function, 16):x}")


def _write_typed(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    _write_pci(node, value, lookup)
    node.attrib.pop("type", "")
    if value is not None:
        node.set("type", "pci")


PCI = Element(_read_pci, _write_pci)
# where other kinds of addresses may stand
TYPED_PCI = Element(_read_pci, _write_typed)
PCI_PATTERN = r"^[0-9a-fA-F]{1,8}:[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.[0-7]$"
