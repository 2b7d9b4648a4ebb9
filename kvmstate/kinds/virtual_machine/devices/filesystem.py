"""Folders of the host's: https://libvirt.org/formatdomain.html#filesystems"""

from typing import Literal

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.model.quantity import Size
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, present, same_flag, same_path, size

ATTRIBUTES = {"mount": "dir", "file": "file", "block": "dev", "template": "name", "bind": "dir", "ram": "usage"}


def _read_source(node: etree._Element, lookup: Lookup) -> str | None:
    source = node.find("source")
    return source.get(ATTRIBUTES.get(node.get("type", "mount"), "dir")) if source is not None else None


def _write_source(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    source = node.find("source")
    if source is None:
        source = etree.SubElement(node, "source")
    for name in ATTRIBUTES.values():
        source.attrib.pop(name, "")
    if value is not None:
        source.set(ATTRIBUTES[node.get("type", "mount")], value)
    elif not source.attrib:
        node.remove(source)


class IdMap(Section):
    """Whose files these are, inside and outside."""

    start: int = xml("@start", required=True, ge=0, doc="The first in the guest.")
    target: int = xml("@target", required=True, ge=0, doc="What that is on the host.")
    count: int = xml("@count", required=True, ge=1)


class Binary(Section):
    """virtiofsd, which serves the folder."""

    path: str | None = xml("@path", same=same_path, pattern="^/")
    xattr: bool | None = xml("@xattr", ON_OFF, doc="Extended attributes.")
    cache: Literal["none", "always"] | None = xml("cache/@mode")
    posix_locks: bool | None = xml("lock/@posix", ON_OFF)
    flock: bool | None = xml("lock/@flock", ON_OFF)
    sandbox: Literal["namespace", "chroot"] | None = xml("sandbox/@mode")
    thread_pool: int | None = xml("thread_pool/@size", ge=0)
    openfiles: int | None = xml("openfiles/@max", ge=1)


class Filesystem(Device):
    """A folder of the host's, for the guest to mount by its target."""

    tag = "filesystem"
    key = "target"

    target: str = xml("target/@dir", required=True, doc="The name by which the guest mounts it.")
    type: Literal["mount", "template", "file", "block", "ram", "bind"] = xml("@type", default="mount")
    source: str | None = xml(".", Element(_read_source, _write_source), same=same_path, doc="The folder.")
    socket: str | None = xml("source/@socket", pattern="^/", doc="Of a virtiofsd that somebody else runs.")
    driver: Literal["path", "handle", "loop", "nbd", "ploop", "virtiofs", "mtp"] | None = xml(
        "driver/@type", lasting=True, doc="virtiofs wants memoryBacking of access shared. Default: path (9p)."
    )
    format: str | None = xml("driver/@format", pattern=r"^[A-Za-z0-9_]+$")
    wrpolicy: Literal["immediate"] | None = xml("driver/@wrpolicy", doc="Writes are on the disk at once.")
    queue: int | None = xml("driver/@queue", ge=1, doc="Of virtiofs.")
    accessmode: Literal["passthrough", "mapped", "squash"] | None = xml(
        "@accessmode", lasting=True, doc="Whose files the guest's are. Default: passthrough."
    )
    fmode: str | None = xml("@fmode", pattern="^[0-7]{3,4}$", doc="Of new files, with accessmode mapped.")
    dmode: str | None = xml("@dmode", pattern="^[0-7]{3,4}$", doc="Of new folders, with accessmode mapped.")
    multidevs: Literal["default", "remap", "forbid", "warn"] | None = xml(
        "@multidevs", doc="Where the folder has several file systems below."
    )
    model: Literal["virtio", "virtio-transitional", "virtio-non-transitional"] | None = xml("@model", lasting=True)
    read_only: bool | None = xml(".", present("readonly"), same=same_flag)
    space_hard_limit: Size | None = xml("space_hard_limit", size("bytes"), gt=0, doc="Of containers.")
    space_soft_limit: Size | None = xml("space_soft_limit", size("bytes"), gt=0, doc="Of containers.")
    binary: Binary | None = xml("binary")
    uids: list[IdMap] = xml_list("idmap/uid")
    gids: list[IdMap] = xml_list("idmap/gid")
    boot_order: int | None = xml("boot/@order", ge=1, doc="1 boots first.")
    virtio: Virtio | None = xml("driver", shared=True)
