"""What SMBIOS tells the guest: https://libvirt.org/formatdomain.html#smbios-system-information"""

from typing import Any, Literal

from kvmstate.xmlbind import Section, xml, xml_list


def entry(block: str, name: str, doc: str = "") -> Any:
    path = f"entry[@name='{name}']"
    return xml(f"{block}/{path}" if block else path, doc=doc)


class Bios(Section):
    """The firmware, as it calls itself."""

    vendor: str | None = entry("", "vendor")
    version: str | None = entry("", "version")
    date: str | None = entry("", "date", "Such as 01/31/2026.")
    release: str | None = entry("", "release")


class System(Section):
    """The machine."""

    manufacturer: str | None = entry("", "manufacturer")
    product: str | None = entry("", "product")
    version: str | None = entry("", "version")
    serial: str | None = entry("", "serial")
    uuid: str | None = entry("", "uuid", "The machine's own, and no other.")
    sku: str | None = entry("", "sku")
    family: str | None = entry("", "family")


class Board(Section):
    """A main board."""

    manufacturer: str | None = entry("", "manufacturer")
    product: str | None = entry("", "product")
    version: str | None = entry("", "version")
    serial: str | None = entry("", "serial")
    asset: str | None = entry("", "asset")
    location: str | None = entry("", "location")


class Chassis(Section):
    """The case."""

    manufacturer: str | None = entry("", "manufacturer")
    version: str | None = entry("", "version")
    serial: str | None = entry("", "serial")
    asset: str | None = entry("", "asset")
    sku: str | None = entry("", "sku")


class Sysinfo(Section):
    """`smbios: sysinfo` has the guest see it."""

    type: Literal["smbios", "fwcfg"] = xml("@type", required=True)
    bios: Bios | None = xml("bios")
    system: System | None = xml("system")
    base_boards: list[Board] = xml_list("baseBoard")
    chassis: Chassis | None = xml("chassis")
