"""The one spelling that libvirt gives what people write in XML in several: of UUIDs, MAC addresses and memory."""

from __future__ import annotations

import uuid
from contextlib import suppress

from lxml import etree

from kvmstate.xmlbind.codecs import UNITS

_MEMORY = ("memory", "currentMemory", "maxMemory")


def spelled(node: etree._Element) -> etree._Element:
    """`node` as libvirt shows it; what it would not take stays, for it to say so."""
    for each in node.iter("uuid"):
        with suppress(ValueError):
            each.text = str(uuid.UUID((each.text or "").strip()))
    for each in node.iter("mac"):
        if address := each.get("address"):
            each.set("address", address.lower())
    for each in (child for tag in _MEMORY for child in node.iterchildren(tag)):
        each.text = _kib(each, (each.text or "").strip())
    for each in node.iterfind("cpu/numa/cell"):
        if size := each.get("memory"):
            each.set("memory", _kib(each, size))
    return node


def _kib(node: etree._Element, size: str) -> str:
    unit = UNITS.get(node.get("unit", "KiB"))
    if unit is None or not size.isdecimal():
        return size
    node.set("unit", "KiB")
    return str(-(-int(size) * unit // 1024))
