"""Graphics cards: https://libvirt.org/formatdomain.html#video-devices"""

from typing import Literal, Self

from pydantic import model_validator

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.kinds.virtual_machine.devices.virtio import Virtio
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import ON_OFF, same_path


class Video(Device):
    """A graphics card."""

    tag = "video"
    key = ""

    model: Literal[
        "vga", "cirrus", "vmvga", "xen", "vbox", "qxl", "virtio", "gop", "bochs", "ramfb", "none", "parallels"
    ] = xml("model/@type", required=True, doc="none: it has none, also not libvirt's.")
    primary: bool | None = xml("model/@primary", lasting=True, doc="The one that shows the boot.")
    heads: int | None = xml("model/@heads", ge=1, le=16, lasting=True, doc="How many screens.")
    ram: int | None = xml("model/@ram", ge=1, lasting=True, doc="In KiB; qxl only.")
    vram: int | None = xml("model/@vram", ge=0, lasting=True, doc="In KiB.")
    vram64: int | None = xml("model/@vram64", ge=0, lasting=True, doc="In KiB; qxl only.")
    vgamem: int | None = xml("model/@vgamem", ge=1, lasting=True, doc="In KiB; qxl only.")
    blob: bool | None = xml("model/@blob", ON_OFF, doc="Memory of the host's for what is drawn; virtio only.")
    accel3d: bool | None = xml("model/acceleration/@accel3d", doc="Drawing by the host's card; virtio only.")
    accel2d: bool | None = xml("model/acceleration/@accel2d", doc="vbox only.")
    rendernode: str | None = xml("model/acceleration/@rendernode", same=same_path, pattern="^/dev/")
    x: int | None = xml("model/resolution/@x", ge=1, doc="The width that it prefers.")
    y: int | None = xml("model/resolution/@y", ge=1, doc="The height that it prefers.")
    vgaconf: Literal["io", "on", "off"] | None = xml("driver/@vgaconf", doc="bhyve only.")
    backend: Literal["qemu", "vhostuser"] | None = xml("driver/@name", doc="vhostuser: drawn by a process of its own.")
    virtio: Virtio | None = xml("driver", shared=True)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.x is None) != (self.y is None):
            raise ValueError("a resolution has both x and y")
        return self
