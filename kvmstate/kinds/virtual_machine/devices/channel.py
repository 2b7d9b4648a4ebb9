"""Channels between the host and its guest: https://libvirt.org/formatdomain.html#channel"""

from __future__ import annotations

from typing import Any

from lxml import etree

from kvmstate.xmlbind import Element
from kvmstate.xmlbind.path import parse_path

AGENT_CHANNEL = "org.qemu.guest_agent.0"


def _read_agent(node: etree._Element, lookup: Any) -> bool | None:
    return True if _agent(node) is not None else None


def _write_agent(node: etree._Element, value: bool | None, lookup: Any) -> None:
    channel = _agent(node)
    if value and channel is None:
        channel = etree.SubElement(node, "channel", type="unix")
        etree.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    elif not value and channel is not None:
        node.remove(channel)


def _agent(devices: etree._Element) -> etree._Element | None:
    return parse_path(f"channel[target/@name='{AGENT_CHANNEL}']").find(devices)


GUEST_AGENT = Element(_read_agent, _write_agent)
