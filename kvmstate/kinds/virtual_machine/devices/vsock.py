"""The vsock: https://libvirt.org/formatdomain.html#vsock"""

from collections.abc import Iterator
from typing import Any, Literal

from lxml import etree

from kvmstate.kind import Claim
from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml


def _read_cid(node: etree._Element, lookup: Lookup) -> int | None:
    return int(node.get("address", "0"), 0) or None if node.get("auto") != "yes" else None


def _write_cid(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    node.set("auto", "no" if value else "yes")
    node.attrib.pop("address", "")
    if value:
        node.set("address", str(value))


CID = Element(_read_cid, _write_cid)


class Vsock(Device):
    """Sockets between the host and its guest, without a network (AF_VSOCK)."""

    tag = "vsock"
    made_with = {"@model": "virtio", "cid/@auto": "yes"}
    volatile = ("cid[@auto='yes']/@address",)

    # the last number means any address, those below 3 the host
    cid: int | None = xml(
        "cid", CID, ge=3, le=(1 << 32) - 2, doc="The guest's address. Default: one that is free, with each start."
    )

    model: Literal["virtio", "virtio-transitional", "virtio-non-transitional"] | None = xml(
        "@model", lasting=True, doc="Default: virtio."
    )
    virtio: Virtio | None = xml("driver", shared=True)

    def claims(self, machine: Any, at: tuple[str | int, ...]) -> Iterator[Claim]:
        # the kernel gives it to the first of those that run
        if self.cid and machine.state in ("running", "paused"):
            yield Claim((*at, "cid"), "the vsock", f"CID {self.cid}")
