"""Where a device is on its bus, in a text: https://libvirt.org/formatdomain.html#device-addresses"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from lxml import etree

from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element

# By type, what of an address is in its text, in this order; `isa` and `dimm` may leave the last one out
NAMES: Mapping[str, tuple[str, ...]] = {
    "pci": ("domain", "bus", "slot", "function"),
    "drive": ("controller", "bus", "target", "unit"),
    "virtio-serial": ("controller", "bus", "port"),
    "ccid": ("controller", "slot"),
    "usb": ("bus", "port"),
    "isa": ("iobase", "irq"),
    "dimm": ("slot", "base"),
}
_WIDTHS = {"domain": 4, "bus": 2, "slot": 2, "function": 1}
PATTERN = (
    r"^(pci:[0-9a-fA-F]{1,8}:[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.[0-7](\+multifunction)?|drive:[0-9]+:[0-9]+:[0-9]+:[0-9]+"
    r"|virtio-serial:[0-9]+:[0-9]+:[0-9]+|ccid:[0-9]+:[0-9]+|usb:[0-9]+:[0-9]+(\.[0-9]+)*|isa:0x[0-9a-fA-F]+(:0x[0-9a-fA-F]+)?"
    r"|dimm:[0-9]+(:0x[0-9a-fA-F]+)?)$"
)


@lru_cache(maxsize=1 << 10)
def _said(items: tuple[tuple[str, str], ...]) -> str | None:
    """The text of an address that can be written so, and is nothing more. Machines have the same ones again and again,
    as libvirt gives them."""
    rest = dict(items)
    kind = rest.pop("type", "")
    names = NAMES.get(kind)
    if names is None:
        return None
    multi = kind == "pci" and rest.pop("multifunction", "")
    optional = names[1:] if kind in ("isa", "dimm") else ()
    if any(name not in rest for name in names if name not in optional) or {*rest} - {*names}:
        return None
    values = [rest[name] for name in names if name in rest]
    if kind == "pci":
        domain, bus, slot, function = (int(value, 0) for value in values)
        text = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
        return f"pci:{text}+multifunction" if multi == "on" else f"pci:{text}" if not multi else None
    return f"{kind}:{':'.join(values)}"


def _read(node: etree._Element, lookup: Lookup) -> str | None:
    place = node.find("address")
    return None if place is None or len(place) else _said(tuple(place.items()))


def _write(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    for place in node.findall("address"):
        node.remove(place)
    if value is None:
        return
    kind, _, text = value.partition(":")
    text, plus, _ = text.partition("+")
    place = etree.SubElement(node, "address", type=kind)
    parts = re.split(r"[:.]", text) if kind == "pci" else text.split(":")
    for name, part in zip(NAMES[kind], parts, strict=False):
        place.set(name, f"0x{int(part, 16):0{_WIDTHS[name]}x}" if kind == "pci" else part)
    if plus:
        place.set("multifunction", "on")


ADDRESS = Element(_read, _write)
