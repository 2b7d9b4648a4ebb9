"""Smart cards: https://libvirt.org/formatdomain.html#smartcard-devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.xmlbind import xml, xml_list


class Smartcard(CharDevice):
    """A smart card in the guest's reader."""

    tag = "smartcard"
    key = ""

    mode: Literal["host", "host-certificates", "passthrough"] = xml("@mode", required=True)
    type: Type | None = xml("@type", doc="Of mode passthrough.")
    certificates: list[str] = xml_list("certificate", doc="Three of the host's, of mode host-certificates.")
    database: str | None = xml("database", pattern="^/", doc="Where the certificates are.")
