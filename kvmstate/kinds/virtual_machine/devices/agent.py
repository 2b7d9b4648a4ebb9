"""The channel of the QEMU guest agent: https://libvirt.org/formatdomain.html#channel"""

from __future__ import annotations

from lxml import etree

from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element
from kvmstate.xmlbind.path import parse_path

AGENT_CHANNEL = "org.qemu.guest_agent.0"


def _read_agent(node: etree._Element, lookup: Lookup) -> bool | None:
    return True if _agent(node) is not None else None


def _write_agent(node: etree._Element, value: bool | None, lookup: Lookup) -> None:
    channel = _agent(node)
    if value and channel is None:
        # the first of them, as other tools write it: their order is that of their ports
        others = node.findall("channel")
        channel = etree.Element("channel", type="unix")
        node.insert(node.index(others[0]) if others else len(node), channel)
        etree.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    elif not value and channel is not None:
        node.remove(channel)


def _agent(devices: etree._Element) -> etree._Element | None:
    return parse_path(f"channel[target/@name='{AGENT_CHANNEL}']").find(devices)


def agent_channel(domain: etree._Element) -> etree._Element | None:
    """The guest agent's channel of a machine."""
    devices = domain.find("devices")
    return None if devices is None else _agent(devices)


GUEST_AGENT = Element(_read_agent, _write_agent)
