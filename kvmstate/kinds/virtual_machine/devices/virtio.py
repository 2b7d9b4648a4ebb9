"""What all virtio devices may say: https://libvirt.org/formatdomain.html#virtio-related-options"""

from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import ON_OFF


class Virtio(Section):
    """What all virtio devices may say."""

    iommu: bool | None = xml("@iommu", ON_OFF, doc="Through the machine's IOMMU.")
    ats: bool | None = xml("@ats", ON_OFF, doc="Address translation services, for PCIe.")
    packed: bool | None = xml("@packed", ON_OFF, doc="Packed queues.")
    page_per_vq: bool | None = xml("@page_per_vq", ON_OFF, doc="Each queue has a page of its own to be told of it.")
