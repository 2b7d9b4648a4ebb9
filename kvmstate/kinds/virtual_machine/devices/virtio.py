"""What all virtio devices may say: https://libvirt.org/formatdomain.html#virtio-related-options"""

from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF


class Thread(Section):
    """An I/O thread that serves a part of a device's queues."""

    id: int = xml("@id", required=True, ge=1, doc="Which of `iothreads`.")
    queues: list[int] = xml_list("queue/@id", doc="Which queues, from 0 on. Default: libvirt shares them out.")


class Virtio(Section):
    """What all virtio devices may say."""

    iommu: bool | None = xml("@iommu", ON_OFF, doc="Through the machine's IOMMU.")
    ats: bool | None = xml("@ats", ON_OFF, doc="Address translation services, for PCIe.")
    packed: bool | None = xml("@packed", ON_OFF, doc="Packed queues.")
    page_per_vq: bool | None = xml("@page_per_vq", ON_OFF, doc="Each queue has a page of its own to be told of it.")
