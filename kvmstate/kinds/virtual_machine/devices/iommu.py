"""The IOMMU: https://libvirt.org/formatdomain.html#iommu-devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import ON_OFF


class Iommu(Device):
    """By which the guest gives devices to programs, or to its own guests."""

    tag = "iommu"

    model: Literal["intel", "smmuv3", "virtio", "amd"] = xml("@model", required=True)
    intremap: bool | None = xml("driver/@intremap", ON_OFF, doc="Interrupts as well; with features.ioapic qemu.")
    caching_mode: bool | None = xml("driver/@caching_mode", ON_OFF, doc="For passed-through devices.")
    eim: bool | None = xml("driver/@eim", ON_OFF, lasting=True, doc="More than 255 CPUs.")
    iotlb: bool | None = xml("driver/@iotlb", ON_OFF, doc="Devices keep translations.")
    aw_bits: int | None = xml("driver/@aw_bits", ge=1, le=64, doc="How wide addresses are.")
    dma_translation: bool | None = xml("driver/@dma_translation", ON_OFF)
