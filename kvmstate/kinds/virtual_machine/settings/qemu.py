"""What is passed on to QEMU past libvirt, which answers for none of it: https://libvirt.org/drvqemu.html"""

from typing import Literal

from kvmstate.xmlbind import Section, Sensitive, xml, xml_list


class Variable(Section):
    """A variable of QEMU's environment."""

    name: str = xml("@name", required=True, pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    value: str | None = xml("@value", sensitive=Sensitive())


class Property(Section):
    """A property of a device, as QEMU calls it."""

    name: str = xml("@name", required=True, pattern=r"^[A-Za-z0-9_.-]+$")
    type: Literal["string", "signed", "unsigned", "bool", "remove"] = xml("@type", required=True)
    value: str | None = xml("@value", doc="Of all types but remove.")


class DeviceOverride(Section):
    """Properties of a device that libvirt writes otherwise."""

    alias: str = xml("@alias", required=True, doc="What libvirt calls the device: ua-NAME where `name` is said.")
    properties: list[Property] = xml_list("qemu:frontend/qemu:property", key="name")


class Qemu(Section):
    """What is passed on to QEMU past libvirt, which answers for none of it."""

    arguments: list[str] = xml_list(
        "qemu:commandline/qemu:arg/@value", sensitive=Sensitive(), doc="At the end of its command line."
    )
    environment: list[Variable] = xml_list("qemu:commandline/qemu:env", key="name")
    add_capabilities: list[str] = xml_list(
        "qemu:capabilities/qemu:add/@capability", doc="What libvirt takes this QEMU to be capable of."
    )
    remove_capabilities: list[str] = xml_list("qemu:capabilities/qemu:del/@capability", doc="And of what not.")
    deprecation: Literal["none", "omit", "reject", "crash"] | None = xml(
        "qemu:deprecation/@behavior", doc="What QEMU does with what it gives up."
    )
    override: list[DeviceOverride] = xml_list("qemu:override/qemu:device", key="alias")
