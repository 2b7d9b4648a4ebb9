"""Making a domain anew from its remainder, so that libvirt shows it as it was."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from typing import Any

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, domains
from kvmstate.xmlbind import document, meaning, to_text
from kvmstate.xmlbind.remainder import HIDDEN


def rebuild(host: Host, node: etree._Element, validate: bool) -> None:
    for graphics in node.iterfind(f"devices/graphics[@passwd='{HIDDEN}']"):
        # nobody knows the old one here, and nobody shall get in without one; VNC's have 8 characters
        graphics.set("passwd", secrets.token_urlsafe(6))
    for part in _without_late_controllers(node):
        try:
            domain = domains.define(host.connection, to_text(part), validate)
        except HostError:
            continue
        if _controllers(document(domains.xml(domain))) == _controllers(node):
            return
    domains.define(host.connection, to_text(node), validate)


def _controllers(node: etree._Element) -> list[Any]:
    return [meaning(controller) for controller in node.iterfind("devices/controller")]


def _without_late_controllers(node: etree._Element) -> Iterator[etree._Element]:
    """libvirt shows controllers that it added itself last, but sorts them among their like when it reads them back.

    So they are left out, for it to add them once more: with all that follow, as these may have been added too, or
    without; and their like without an index, should they have come to theirs later. Nothing when they are in the order
    in which they would be read. See virDomainControllerInsertPreAlloced in libvirt's src/conf/domain_conf.c.
    """
    controllers = node.findall("devices/controller")
    late = [number for number, controller in enumerate(controllers) if _is_late(controllers[:number], controller)]
    if not late:
        return
    following = [*range(late[0], len(controllers))]
    for numbers, indexed in ((following, True), (late, True), (following, False)):
        part = copy.deepcopy(node)
        for number, controller in enumerate(part.findall("devices/controller")):
            if number in numbers:
                controller.getparent().remove(controller)  # type: ignore[union-attr]
            elif not indexed and controller.get("type") == controllers[late[0]].get("type"):
                del controller.attrib["index"]
        yield part


def _is_late(before: list[etree._Element], controller: etree._Element) -> bool:
    like = [other for other in before if other.get("type") == controller.get("type")]
    higher = any(int(other.get("index", "0")) > int(controller.get("index", "0")) for other in like)
    return higher or bool(like and before[-1] is not like[-1])
