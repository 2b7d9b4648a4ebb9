"""Disks without an image file: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms"""

from kvmstate.kinds.virtual_machine.devices.backend_source import Reconnect
from kvmstate.kinds.virtual_machine.devices.base import of_type
from kvmstate.kinds.virtual_machine.devices.pci import PCI, PCI_PATTERN
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_case, same_path


class NvmeSource(Section):
    """An NVMe disk of the host's, which QEMU drives itself."""

    made_with = {"@type": "pci"}

    namespace: int = xml(".", of_type("nvme", "namespace", int), required=True, ge=1, doc="Which of its namespaces.")
    pci: str = xml(
        "address", PCI, same=same_case, required=True, pattern=PCI_PATTERN, doc="Where it is, such as 0000:01:00.0."
    )
    managed: bool | None = xml("@managed", lasting=True, doc="libvirt takes it from its driver, and gives it back.")


class VhostUserSource(Section):
    """A disk that another process of the host's serves; wants memoryBacking of access shared."""

    made_with = {"@type": "unix"}

    path: str = xml(
        ".", of_type("vhostuser", "path"), same=same_path, required=True, pattern="^/", doc="The process's socket."
    )
    reconnect: Reconnect | None = xml("reconnect")


class Reservations(Section):
    """Persistent reservations of SCSI, which a helper makes (qemu-pr-helper)."""

    managed: bool = xml("@managed", required=True, doc="libvirt starts the helper.")
    path: str | None = xml("source/@path", same=same_path, pattern="^/", doc="The socket of one that is there.")
    mode: str | None = xml("source/@mode", pattern="^client$", doc="Of a helper that is there: client.")


class Slice(Section):
    """The part of the image that the guest sees as a disk."""

    made_with = {"@type": "storage"}

    offset: int = xml("@offset", required=True, ge=0, doc="In bytes.")
    size: int = xml("@size", required=True, ge=1, doc="In bytes.")
