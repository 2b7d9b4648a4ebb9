"""Memory that is plugged in: https://libvirt.org/formatdomain.html#memory-devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.effect import Effect
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import present, same_flag, same_path
from kvmstate.xmlbind.codecs import size as amount


class MemoryDevice(Device):
    """A module of memory."""

    tag = "memory"
    key = ""
    # where the guest sees it
    chosen = ("target/address",)

    model: Literal["dimm", "nvdimm", "virtio-mem", "virtio-pmem", "sgx-epc"] = xml("@model", required=True)
    size: Size = xml("target/size", amount("KiB"), required=True, gt=0, multiple_of=1024)
    requested: Size | None = xml(
        "target/requested",
        amount("KiB"),
        effect=Effect.LIVE,
        ge=0,
        doc="What the guest shall take; virtio-mem.",
    )
    block: Size | None = xml("target/block", amount("KiB"), gt=0, lasting=True, doc="In such steps; virtio-mem.")
    node: int | None = xml("target/node", ge=0, doc="The guest's NUMA node.")
    dynamic_memslots: bool | None = xml("target/@dynamicMemslots", doc="Of virtio-mem: the host keeps less for it.")
    access: Literal["shared", "private"] | None = xml("@access")
    discard: bool | None = xml("@discard", doc="Discarded when the machine ends.")
    uuid: str | None = xml("uuid", lasting=True, pattern="^[0-9a-f-]{36}$", doc="nvdimm on POWER only.")
    path: str | None = xml("source/path", same=same_path, pattern="^/", doc="The file of nvdimm and virtio-pmem.")
    pagesize: Size | None = xml("source/pagesize", amount("KiB"), gt=0, doc="Of the host's pages.")
    nodemask: str | None = xml("source/nodemask", pattern=r"^[0-9,^-]+$", doc="The host's NUMA nodes.")
    alignsize: Size | None = xml("source/alignsize", amount("KiB"), gt=0, doc="nvdimm only.")
    pmem: bool | None = xml(
        "source", present("pmem"), same=same_flag, doc="The file is on persistent memory; nvdimm only."
    )
    label: Size | None = xml("target/label/size", amount("KiB"), gt=0, doc="Room for labels; nvdimm only.")
    read_only: bool | None = xml("target", present("readonly"), same=same_flag, doc="nvdimm only.")
    base: str | None = xml("target/address/@base", pattern="^0x[0-9a-f]+$", lasting=True, doc="virtio-mem and pmem.")
