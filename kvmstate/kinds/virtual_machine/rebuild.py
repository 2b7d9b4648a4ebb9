"""Making a domain again from its remainder, so that libvirt shows it as it was."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Collection, Iterator

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, domains
from kvmstate.host.objects import Domain
from kvmstate.xmlbind import contained, document, meaning, to_text
from kvmstate.xmlbind.remainder import HIDDEN


def rebuild(host: Host, node: etree._Element, validate: bool) -> None:
    """Define a domain again from this XML. Raises HostError."""
    for graphics in node.iterfind(f"devices/graphics[@passwd='{HIDDEN}']"):
        # nobody knows the old one here, and nobody shall get in without one; VNC's have 8 characters
        graphics.set("passwd", secrets.token_urlsafe(6))
    domain: Domain | None = None
    for part in _as_first_written(node):
        try:
            domain = _define(host, domain, part, validate)
        except HostError:
            continue
        made = document(domains.xml(domain, secure=True))
        if _controllers(made) == _controllers(node) and contained(node, made):
            return
    _define(host, domain, node, validate)


def _define(host: Host, made: Domain | None, node: etree._Element, validate: bool) -> Domain:
    """Again, or over what has just been `made`."""
    if made is None:
        return domains.define(host.connection, to_text(node), validate)
    return domains.redefine(domains.configuration(made), to_text(node), validate)


def _controllers(node: etree._Element) -> list[object]:
    return [meaning(controller) for controller in node.iterfind("devices/controller")]


def _as_first_written(node: etree._Element) -> Iterator[etree._Element]:
    """Documents that libvirt may complete to this one; nothing where it takes this one as it is.

    It shows controllers that it added itself last, but sorts them among their like when it reads them back. So they are
    left out, for it to add them once more: with all that follow, as these may have been added too, or without; with PCI
    addresses, by which it tells how many it needs, or without. Where an index is lower than one before, it may have
    been the one or the other that came to its index later. See virDomainControllerInsertPreAlloced in libvirt's
    src/conf/domain_conf.c.
    """
    controllers = [(c.get("type"), int(c.get("index", "0"))) for c in node.iterfind("devices/controller")]
    apart, lower, higher = [], [], set()
    for number, (type_, index) in enumerate(controllers):
        like = [n for n in range(number) if controllers[n][0] == type_]
        above = [n for n in like if controllers[n][1] > index]
        apart += [number] if like and like[-1] != number - 1 else []
        lower += [number] if above else []
        higher |= {*above}
    late = sorted({*apart, *lower})
    if not late:
        return
    following = range(late[0], len(controllers))
    yield _part(node, following)
    yield _part(node, late)
    yield _part(node, following, unindexed=higher)
    yield _part(node, (), unindexed=late)
    yield _part(node, range(apart[0] if apart else len(controllers), len(controllers)), unindexed=higher)
    yield _part(node, following, addresses=False)
    yield _part(node, range(len(controllers)), addresses=False)


def _part(
    node: etree._Element, dropped: Collection[int], unindexed: Collection[int] = (), addresses: bool = True
) -> etree._Element:
    part = copy.deepcopy(node)
    for number, controller in enumerate(part.findall("devices/controller")):
        if number in unindexed:
            del controller.attrib["index"]
        if number in dropped:
            controller.getparent().remove(controller)  # type: ignore[union-attr]
    if not addresses:
        for address in part.findall("devices/*/address[@type='pci']"):
            address.getparent().remove(address)  # type: ignore[union-attr]
    return part
