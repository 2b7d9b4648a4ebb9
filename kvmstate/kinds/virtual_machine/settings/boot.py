"""How it boots: https://libvirt.org/formatdomain.html#bios-bootloader"""

from typing import Literal

from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_path


class Loader(Section):
    """The firmware's image. Without one, libvirt chooses it by `firmware`."""

    path: str | None = xml(".", same=same_path, pattern="^/", lasting=True, doc="A file of the host.")
    type: Literal["rom", "pflash"] | None = xml("@type", lasting=True, doc="pflash for UEFI.")
    readonly: bool | None = xml("@readonly", lasting=True)
    secure: bool | None = xml("@secure", lasting=True, doc="Whether it wants system management mode, for secure boot.")
    stateless: bool | None = xml("@stateless", lasting=True, doc="It keeps no variables: there is no NVRAM.")
    format: Literal["raw", "qcow2"] | None = xml("@format", lasting=True)


class Nvram(Section):
    """The firmware's variables, such as what boots first."""

    path: str | None = xml(
        ".", same=same_path, pattern="^/", lasting=True, doc="A file of the host, made from the template."
    )
    template: str | None = xml("@template", same=same_path, pattern="^/", lasting=True, doc="Default: the firmware's.")
    format: Literal["raw", "qcow2"] | None = xml("@format", lasting=True)
    template_format: Literal["raw", "qcow2"] | None = xml("@templateFormat", lasting=True)


class FirmwareFeature(Section):
    """What the firmware that libvirt chooses has to have, or must not have."""

    name: Literal["enrolled-keys", "secure-boot"] = xml("@name", required=True)
    enabled: bool = xml("@enabled", required=True)


class AcpiTable(Section):
    """A table for the guest's ACPI, a file of the host."""

    # that of type slic has a field of its own
    only = {"type": ("raw", "rawset", "msdm")}

    type: Literal["raw", "rawset", "msdm"] = xml("@type", required=True, doc="rawset: several, one after the other.")
    path: str = xml(".", same=same_path, required=True, pattern="^/")


class BootMenu(Section):
    """Whether whoever looks may choose what boots."""

    enable: bool = xml("@enable", required=True)
    timeout: int | None = xml("@timeout", ge=0, le=65535, doc="Milliseconds that it waits.")


class Bios(Section):
    """What the BIOS does."""

    useserial: bool | None = xml("@useserial", doc="Its messages go to the serial port.")
    reboot_timeout: int | None = xml(
        "@rebootTimeout", ge=-1, le=65535, doc="Milliseconds after which it tries again to boot; -1: never."
    )
