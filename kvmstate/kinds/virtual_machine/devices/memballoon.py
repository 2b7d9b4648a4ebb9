"""The memory balloon: https://libvirt.org/formatdomain.html#memory-balloon-device"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import ON_OFF


class Memballoon(Device):
    """By which the guest gives memory back."""

    tag = "memballoon"

    model: Literal["virtio", "virtio-transitional", "virtio-non-transitional", "xen", "none"] = xml(
        "@model", required=True, doc="none: it has none, also not libvirt's."
    )
    autodeflate: bool | None = xml("@autodeflate", ON_OFF, doc="The guest takes memory back before it runs out.")
    free_page_reporting: bool | None = xml("@freePageReporting", ON_OFF, doc="The guest tells what it does not use.")
    stats_period: int | None = xml(
        "stats/@period", effect=Effect.LIVE, ge=0, doc="Seconds between two looks at the guest's memory."
    )
    virtio: Virtio | None = xml("driver", shared=True)
