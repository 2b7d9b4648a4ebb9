"""Paths into XML: the part of XPath that can be written to as well as read.

`devices/rng/backend`, `bridge/@name`, `os/firmware/feature[@name='secure-boot']/@enabled`,
`devices/channel[target/@name='org.qemu.guest_agent.0']`, `devices/disk[2]/driver/@cache`; a leading `./` or the
document element's own name is fine. Prefixes are those of NAMESPACES.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property

from lxml import etree

NAMESPACES = {
    "kvmstate": "https://kvmstate.dev/xmlns/resource/1.0",
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "dnsmasq": "http://libvirt.org/schemas/network/dnsmasq/1.0",
    "libosinfo": "http://libosinfo.org/xmlns/libvirt/domain/1.0",
    "host-boot": "https://kvmstate.dev/xmlns/host-boot/1.0",
    "host-shutdown": "https://kvmstate.dev/xmlns/host-shutdown/1.0",
    "port-forwards": "https://kvmstate.dev/xmlns/port-forwards/1.0",
}
for _prefix, _uri in NAMESPACES.items():
    # people read the XML that libvirt keeps: their prefixes, not ns0
    etree.register_namespace(_prefix, _uri)
_NAME = r"(?:[A-Za-z_][\w.-]*:)?[A-Za-z_][\w.-]*"
_STEP = re.compile(rf"({_NAME})(?:\[(?:((?:{_NAME}/)*@{_NAME})=(?:'([^']*)'|\"([^\"]*)\")|(\d+))\])?")
_SPLIT = re.compile(r"/(?![^\[]*\])")


def qualified(name: str) -> str:
    """`qemu:commandline` in lxml's notation. Raises ValueError for an unknown prefix."""
    prefix, colon, local = name.partition(":")
    if not colon:
        return name
    if prefix not in NAMESPACES:
        raise ValueError(f"unknown namespace prefix {prefix!r}; known are {', '.join(sorted(NAMESPACES))}")
    return f"{{{NAMESPACES[prefix]}}}{local}"


@dataclass(frozen=True)
class Step:
    """One element on the way: its tag and, optionally, which one of several."""

    tag: str
    where: Path | None = None
    value: str = ""
    number: int = 0

    @cached_property
    def is_plain(self) -> bool:
        """Whether any element with the tag will do."""
        return not self.number and self.where is None

    @cached_property
    def _attribute(self) -> str | None:
        """The attribute of its own that tells which one it is, where one does."""
        return self.where.attribute if self.where is not None and not self.where.steps else None

    def find(self, node: etree._Element) -> list[etree._Element]:
        # lxml looks for the tag itself: a machine's devices are many, and each one seen from Python costs
        found = list(node.iterchildren(self.tag))
        if self.number:
            return found[self.number - 1 : self.number]
        if self._attribute:
            return [child for child in found if child.get(self._attribute) == self.value]
        return [child for child in found if self.where is None or self.where.text(child) == self.value]

    def first(self, node: etree._Element) -> etree._Element | None:
        return next(node.iterchildren(self.tag) if self.is_plain else iter(self.find(node)), None)

    def make(self, node: etree._Element) -> etree._Element:
        child = etree.SubElement(node, self.tag)
        if self.where is not None:
            self.where.set(child, self.value)
        return child


@dataclass(frozen=True)
class Path:
    """A parsed path: `steps` to an element, then its text, or the attribute named."""

    steps: tuple[Step, ...]
    attribute: str | None

    def find_all(self, node: etree._Element) -> list[etree._Element]:
        nodes = [node]
        for step in self.steps:
            nodes = [child for parent in nodes for child in step.find(parent)]
        return nodes

    def find(self, node: etree._Element) -> etree._Element | None:
        found: etree._Element | None = node
        for step in self.steps:
            if found is None:
                break
            found = next(found.iterchildren(step.tag), None) if step.is_plain else step.first(found)
        return found

    def parent(self) -> Path:
        return Path(self.steps[:-1], None)

    def ensure(self, node: etree._Element) -> etree._Element:
        for step in self.steps:
            found = step.first(node)
            node = found if found is not None else step.make(node)
        return node

    def text(self, node: etree._Element) -> str | None:
        """The value at this path, or None when there is no such element or attribute."""
        found = self.find(node)
        if found is None:
            return None
        return found.get(self.attribute) if self.attribute else (found.text or "").strip()

    def set(self, node: etree._Element, value: str) -> None:
        target = self.ensure(node)
        if self.attribute:
            target.set(self.attribute, value)
        else:
            target.text = value

    def remove(self, node: etree._Element) -> None:
        """Take the attribute, or the whole element, away; nothing happens when it is not there."""
        target = self.find(node)
        if target is None:
            return
        if self.attribute:
            target.attrib.pop(self.attribute, "")
            # <boot/>, <mtu/> and their like mean nothing, or are refused, without it
            empty = not (target.attrib or len(target) or (target.text or "").strip())
            if self.steps and empty and (parent := target.getparent()) is not None:
                parent.remove(target)
        elif (parent := target.getparent()) is not None and target is not node:
            parent.remove(target)


@cache
def parse_path(text: str) -> Path:
    """Parse a path. Raises ValueError when `text` is not a path of this kind."""
    steps: list[Step] = []
    attribute = None
    parts = [part for part in _SPLIT.split(text.strip()) if part != "."]
    for index, part in enumerate(parts):
        if part.startswith("@") and index == len(parts) - 1 and re.fullmatch(_NAME, part[1:]):
            attribute = qualified(part[1:])
            continue
        match = _STEP.fullmatch(part)
        if not match:
            raise ValueError(f"{text!r} is not a path such as ./cpu/@mode or ./devices/disk[1]/driver/@cache")
        tag, where, single, double, number = match.groups()
        steps.append(
            Step(
                qualified(tag),
                parse_path(where) if where else None,
                single or double or "",
                int(number) if number else 0,
            )
        )
    return Path(tuple(steps), attribute)
