"""Sound cards: https://libvirt.org/formatdomain.html#sound-devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.xmlbind import Section, xml, xml_list


class Codec(Section):
    """What plays, or records."""

    type: Literal["duplex", "micro", "output"] = xml("@type", required=True)


class Sound(Device):
    """A sound card."""

    tag = "sound"
    key = ""

    model: Literal["sb16", "es1370", "ac97", "pcspk", "ich6", "ich7", "ich9", "usb", "virtio"] = xml(
        "@model", required=True
    )
    codecs: list[Codec] = xml_list("codec", doc="Of ich6 and ich9. Default: duplex.")
    audio: int | None = xml("audio/@id", ge=1, lasting=True, doc="Which of `audio` plays it.")
    multichannel: bool | None = xml("@multichannel", doc="More than two channels; usb only.")
    virtio: Virtio | None = xml("driver", shared=True)
    streams: int | None = xml("@streams", ge=1, doc="virtio only.")
