"""The images below a disk's: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from lxml import etree
from pydantic import BeforeValidator, Field

from kvmstate.model.reference import Lookup
from kvmstate.model.resource import Model
from kvmstate.xmlbind import Element

_TAG = "backingStore"
_ATTRIBUTES = {"file": "file", "block": "dev"}


class BackingImage(Model):
    """An image that the one above it has as its base."""

    format: str = Field(pattern="^[a-z0-9]+$", description="Such as qcow2 or raw.")
    file: str = Field(pattern="^/", description="A file of the host's.")
    block: bool | None = Field(None, description="It is a block device.")


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


# a value like any other: it changes as a whole
Chain = Annotated[tuple[BackingImage, ...], BeforeValidator(_listed)]


def _below(disk: etree._Element) -> list[etree._Element]:
    """The elements of a chain, from the top; the last one may say nothing, which ends it."""
    found, node = list[etree._Element](), disk.find(_TAG)
    while node is not None:
        found.append(node)
        node = node.find(_TAG)
    return found


def _is_end(node: etree._Element) -> bool:
    return not (len(node) or node.attrib)


def _image(node: etree._Element) -> BackingImage | None:
    source, format_, kind = node.find("source"), node.find("format"), node.get("type", "")
    if source is None or format_ is None or kind not in _ATTRIBUTES or len(source):
        return None
    path = source.get(_ATTRIBUTES[kind], "")
    if {*source.attrib} - {_ATTRIBUTES[kind], "index"} or {str(each.tag) for each in node} - {"source", "format", _TAG}:
        return None
    made = BackingImage.model_construct(format=format_.get("type", ""), file=path)
    return made if kind == "file" else made.model_copy(update={"block": True})


def _read(disk: etree._Element, lookup: Lookup) -> tuple[BackingImage, ...] | None:
    images = [_image(node) for node in _below(disk) if not _is_end(node)]
    return tuple(image for image in images if image) if images and None not in images else None


def _write(disk: etree._Element, value: Sequence[BackingImage] | None, lookup: Lookup) -> None:
    chain = _below(disk)
    ends = bool(chain) and _is_end(chain[-1])
    for node in disk.findall(_TAG):
        disk.remove(node)
    node = disk
    for image in value or ():
        kind = "block" if image.block else "file"
        node = etree.SubElement(node, _TAG, type=kind)
        etree.SubElement(node, "format", type=image.format)
        etree.SubElement(node, "source", {_ATTRIBUTES[kind]: image.file})
    if ends:
        etree.SubElement(node, _TAG)


def _read_end(disk: etree._Element, lookup: Lookup) -> str | None:
    chain = _below(disk)
    return "none" if chain and _is_end(chain[-1]) else None


def _write_end(disk: etree._Element, value: str | None, lookup: Lookup) -> None:
    chain = _below(disk)
    if chain and _is_end(chain[-1]):
        if value is None:
            chain[-1].getparent().remove(chain[-1])  # type: ignore[union-attr]
    elif value:
        etree.SubElement(chain[-1] if chain else disk, _TAG)


CHAIN, END = Element(_read, _write), Element(_read_end, _write_end)
