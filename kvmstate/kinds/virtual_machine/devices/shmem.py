"""Memory that guests share: https://libvirt.org/formatdomain.html#shared-memory-device"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import ON_OFF, same_path, size


class Shmem(Device):
    """Memory that guests share."""

    tag = "shmem"
    key = "name"

    name: str = xml("@name", required=True, pattern=r"^[A-Za-z0-9_.-]+$")
    role: Literal["master", "peer"] | None = xml("@role", lasting=True, doc="A master has it when it moves.")
    model: Literal["ivshmem", "ivshmem-plain", "ivshmem-doorbell"] | None = xml("model/@type", lasting=True)
    size: Size | None = xml("size", size("M"), gt=0, lasting=True, doc="A power of two. Default: 4 MiB.")
    server: str | None = xml("server/@path", same=same_path, pattern="^/", doc="The socket of model ivshmem-doorbell.")
    vectors: int | None = xml("msi/@vectors", ge=1, doc="Interrupts, with a server.")
    ioeventfd: bool | None = xml("msi/@ioeventfd", ON_OFF, doc="With a server.")
