"""Channels between the host and its guest: https://libvirt.org/formatdomain.html#channel"""

from collections.abc import Iterator
from typing import Any, Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind import Fault
from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml
from kvmstate.xmlbind.path import parse_path

AGENT_CHANNEL = "org.qemu.guest_agent.0"


class Channel(Device):
    """A port of the guest's that leads to its host. That of the guest agent is `guestAgent`."""

    tag = "channel"
    only = {"type": ("unix", "spicevmc", "qemu-vdagent")}
    made_with = {"target/@type": "virtio"}
    volatile = ("self::*[@type='unix']/source", "target/@state")

    name: str = xml("target/@name", required=True, pattern=r"^[\w.-]+$", doc="As the guest sees it, by its end.")
    type: Literal["unix", "spicevmc", "qemu-vdagent"] = xml(
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


def _read_agent(node: etree._Element, lookup: Lookup) -> bool | None:
    return True if _agent(node) is not None else None


def _write_agent(node: etree._Element, value: bool | None, lookup: Lookup) -> None:
    channel = _agent(node)
    if value and channel is None:
        channel = etree.SubElement(node, "channel", type="unix")
        etree.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    elif not value and channel is not None:
        node.remove(channel)


def _agent(devices: etree._Element) -> etree._Element | None:
    return parse_path(f"channel[target/@name='{AGENT_CHANNEL}']").find(devices)


GUEST_AGENT = Element(_read_agent, _write_agent)
