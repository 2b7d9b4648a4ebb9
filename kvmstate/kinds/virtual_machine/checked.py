"""Defining a machine with what people write by path: libvirt's schema is asked about that, and about nothing else.

What is unknown to libvirt it would drop without a word. Its own output does not always fit its schema, though, and the
schema has an order of elements here and there, which libvirt itself does not care for.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host.domains import OUT_OF_SCHEMA
from kvmstate.xmlbind.path import parse_path

# By element: those of its children that the schema (domaincommon.rng) wants first, in this order
ORDERED = {
    "domain": ("name", "uuid", "genid"),
    "resource": ("partition", "fibrechannel"),
    "hostdev": ("driver", "source"),
    "source": ("reconnect", "vendor", "product"),
    "model": ("acceleration", "resolution"),
    "smartcard": ("certificate", "database"),
    "encryption": ("cipher", "ivgen"),
}
_NAMED = re.compile(r"^(?:Extra element (\S+) in interleave|Element domain has extra content: (\S+))$", re.MULTILINE)


def arranged(node: etree._Element) -> etree._Element:
    """A copy in the order of the schema; what has none there keeps its place."""
    node = copy.deepcopy(node)
    for parent in node.iter(*ORDERED):
        ranks = {tag: rank for rank, tag in enumerate(ORDERED[str(parent.tag)])}
        children = list(parent)
        parent[:] = sorted(children, key=lambda child: ranks.get(str(child.tag), len(ranks)))
    return node


def define(node: etree._Element, paths: Iterable[str], define: Callable[[etree._Element, bool], None]) -> None:
    """Have `define` define the machine, with libvirt's schema checked where people have set `paths`.

    Raises HostError, which names the paths that do not fit. Where it is not one of them that does not fit, there is no
    check: what libvirt does not keep is seen afterwards.
    """
    paths = list(paths)
    if not paths:
        define(node, False)
        return
    node = arranged(node)
    try:
        define(node, True)
    except HostError as error:
        if error.code != OUT_OF_SCHEMA:
            raise
        names = {name for match in _NAMED.finditer(error.message) for name in match.groups() if name}
        if not (wrong := [path for path in paths if not names or _top(path) in names]):
            define(node, False)
            return
        said = "; ".join(match[0] for match in _NAMED.finditer(error.message)) or error.message
        raise HostError(
            f"{', '.join(f'spec.xml {path}' for path in wrong)}: libvirt's schema does not allow it ({said})",
            "correct the path or its value: https://libvirt.org/formatdomain.html",
            error.code,
        ) from error


def _top(path: str) -> str:
    parsed = parse_path(path)
    return etree.QName(parsed.steps[0].tag).localname if parsed.steps else f"@{parsed.attribute}"
