"""Channels between the host and its guest: https://libvirt.org/formatdomain.html#channel"""

from collections.abc import Iterator
from typing import Any, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine.devices.agent import AGENT_CHANNEL
from kvmstate.kinds.virtual_machine.devices.backend import CharDevice, Type
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.path import parse_path


class Channel(CharDevice):
    """A port of the guest's that leads to its host. That of the guest agent is `guestAgent`."""

    tag = "channel"
    made_with = {"target/@type": "virtio"}
    # where libvirt puts sockets itself
    volatile = (
        "self::*[@type='unix']/source[not(@path) or contains(@path, '/libvirt/qemu/channel/')]",
        "target/@state",
    )

    name: str = xml(
        "target/@name", required=True, pattern=r"^[A-Za-z0-9_.-]+$", doc="As the guest sees it, by its end."
    )
    type: Type = xml(
        "@type",
        default="unix",
        doc="What is at the host's end: a socket, or the clipboard and the mouse of a SPICE or a VNC screen.",
    )

    def faults(self, machine: Any, at: tuple[str | int, ...]) -> Iterator[Fault]:
        # what the manifest says nothing of may be there
        told = "graphics" in machine.model_fields_set and not (machine.remainder or machine.xml)
        if self.type == "spicevmc" and told and all(screen.type != "spice" for screen in machine.graphics):
            message = "type spicevmc needs graphics of type spice"
            yield Fault((*at, "type"), message, "write type: qemu-vdagent for a VNC screen")

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        return parse_path("target/@name").text(node) not in (None, AGENT_CHANNEL) and super().is_one(node)

    @model_validator(mode="after")
    def _not_the_agent(self) -> Self:
        if self.name == AGENT_CHANNEL:
            raise ValueError("this is the guest agent's channel: write guestAgent: true")
        return self
