"""How values are written in XML where text alone will not do.

`Scalar` turns one text or attribute into a value. `Element` reads and writes a whole element, with the `lookup`
that the caller passes through (what paths mean on a host); writing None clears what reading reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lxml import etree

from kvmstate.model.quantity import Bytes
from kvmstate.model.reference import Lookup


@dataclass(frozen=True)
class Scalar:
    read: Callable[[str], object]
    write: Callable[[object], str]


@dataclass(frozen=True)
class Element:
    read: Callable[[etree._Element, Any], Any]
    write: Callable[[etree._Element, Any, Any], None]


Codec = Scalar | Element


def _flag(on: str, off: str) -> Scalar:
    return Scalar(lambda text: text == on, lambda value: on if value else off)


YES_NO = _flag("yes", "no")
ON_OFF = _flag("on", "off")
TEXT = Scalar(str, str)
NUMBER = Scalar(lambda text: int(text, 0), str)
HEXADECIMAL = Scalar(lambda text: int(text, 0), hex)  # type: ignore[arg-type]

# https://libvirt.org/formatdomain.html#memory-allocation; the same letters serve volumes (formatstorage.html)
UNITS = {"b": 1, "B": 1, "bytes": 1} | {
    spelling: base**power
    for power, letter in enumerate("KMGTPE", 1)
    for spelling, base in (
        (letter, 1024),
        (letter + "iB", 1024),
        (letter + "B", 1000),
        (letter.lower(), 1024),
    )
}


def size(default_unit: str) -> Element:
    """An amount of bytes with a `unit` attribute; written in `default_unit`, rounded up to it."""
    step = UNITS[default_unit]

    def read(node: etree._Element, lookup: Lookup) -> Bytes | None:
        text = (node.text or "").strip()
        return Bytes(int(text) * UNITS[node.get("unit", default_unit)]) if text else None

    def write(node: etree._Element, value: int | None, lookup: Lookup) -> None:
        if value is None:
            parent = node.getparent()
            if parent is not None:
                parent.remove(node)
            return
        node.set("unit", default_unit)
        node.text = str(-(-value // step))

    return Element(read, write)


def sized(attribute: str, default_unit: str) -> Element:
    """An amount of bytes in an attribute, with a `unit` beside it; written in `default_unit`, rounded up to it."""
    step = UNITS.get(default_unit, 1)

    def read(node: etree._Element, lookup: Lookup) -> Bytes | None:
        text = node.get(attribute)
        return Bytes(int(text) * UNITS.get(node.get("unit", default_unit), 1)) if text else None

    def write(node: etree._Element, value: int | None, lookup: Lookup) -> None:
        node.attrib.pop("unit", "")
        node.attrib.pop(attribute, "")
        if value is not None:
            node.set(attribute, str(-(-value // step)))
            node.set("unit", default_unit)

    return Element(read, write)


def same_path(want: str | None, seen: str | None) -> bool:
    """`/a//b/` is `/a/b`; what `..` means, only the host knows."""
    return want is not None and seen is not None and _steps(want) == _steps(seen)


def _steps(path: str) -> tuple[bool, list[str]]:
    return path.startswith("/"), [step for step in path.split("/") if step not in ("", ".")]


def same_case(want: str | None, seen: str | None) -> bool:
    return want is not None and seen is not None and want.lower() == seen.lower()


def same_flag(want: bool, seen: bool | None) -> bool:
    """What is not said is no."""
    return want == bool(seen)


def named_values(tag: str) -> Element:
    """Children such as `<parameter name='IP' value='10.0.0.1'/>`, as a mapping; a name may have several values."""

    def read(node: etree._Element, lookup: Lookup) -> dict[str, str | list[str]] | None:
        found: dict[str, list[str]] = {}
        for child in node.iterchildren(tag):
            found.setdefault(child.get("name", ""), []).append(child.get("value", ""))
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()} or None

    def write(node: etree._Element, value: dict[str, str | list[str]] | None, lookup: Lookup) -> None:
        for child in [*node.iterchildren(tag)]:
            node.remove(child)
        for name, values in sorted((value or {}).items()):
            for each in values if isinstance(values, list) else [values]:
                etree.SubElement(node, tag, name=name, value=each)

    return Element(read, write)


def present(tag: str) -> Element:
    """A child element that means yes by being there, such as `<readonly/>`."""

    def read(node: etree._Element, lookup: Lookup) -> bool | None:
        return True if node.find(tag) is not None else None

    def write(node: etree._Element, value: bool | None, lookup: Lookup) -> None:
        found = node.find(tag)
        if value and found is None:
            etree.SubElement(node, tag)
        elif not value and found is not None:
            node.remove(found)

    return Element(read, write)
