"""What SMBIOS tells the guest: https://libvirt.org/formatdomain.html#smbios-system-information"""

from typing import Any, Literal, Self

from pydantic import model_validator

from kvmstate.xmlbind import Section, Sensitive, xml, xml_list
from kvmstate.xmlbind.codecs import same_path


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


class Entry(Section):
    """A text, or a file of the host's, that the guest finds by its name."""

    name: str = xml("@name", required=True, pattern=r"^[!-~]{1,55}$", doc="Such as opt/com.example/name.")
    value: str | None = xml(".", sensitive=Sensitive(), doc="The text.")
    file: str | None = xml("@file", same=same_path, pattern="^/", doc="Instead: the file.")

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.value is None) == (self.file is None):
            raise ValueError("an entry has either value or file")
        return self


class Sysinfo(Section):
    """`smbios: sysinfo` has the guest see it."""

    type: Literal["smbios", "fwcfg"] = xml("@type", required=True)
    bios: Bios | None = xml("bios")
    system: System | None = xml("system")
    base_boards: list[Board] = xml_list("baseBoard")
    chassis: Chassis | None = xml("chassis")
    oem_strings: list[str] = xml_list(
        "oemStrings/entry", sensitive=Sensitive(), doc="Texts for the guest's programs, such as systemd's credentials."
    )
    entries: list[Entry] = xml_list("entry", key="name", doc="Of type fwcfg: what the guest's firmware can read.")
