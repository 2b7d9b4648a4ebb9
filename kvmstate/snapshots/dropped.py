"""Image files that hold data which nobody needs any more, by a deed that was approved: a revert that took them off the
disks, a merge that wrote all they hold into what they lay on; or memory that is being written. Said in the domain's own
metadata, so that the run that goes on with the deed of a dead one may delete them. Whatever else holds data is never
deleted as a leftover.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from lxml import etree

from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.model.untrusted import DAMAGE, expect, from_json
from kvmstate.xmlbind import document, to_text

_URI = "https://kvmstate.dev/xmlns/dropped/1.0"
_PREFIX = "kvmstate-dropped"


def write(root: etree._Element, paths: Iterable[str]) -> None:
    """Into the XML of a domain that is to be defined, in place of what it says."""
    metadata = root.find("metadata")
    for old in root.findall(f"metadata/{{{_URI}}}dropped"):
        old.getparent().remove(old)  # type: ignore[union-attr]
    if listed := sorted(paths):
        if metadata is None:
            metadata = etree.SubElement(root, "metadata")
        etree.SubElement(metadata, f"{{{_URI}}}dropped", files=json.dumps(listed), nsmap={_PREFIX: _URI})


def note(domain: Domain, paths: Iterable[str]) -> None:
    """These too."""
    _set(domain, read(domain).union(paths))


def keep(domain: Domain, paths: Iterable[str]) -> None:
    """Not these any more."""
    _set(domain, read(domain).difference(paths))


def _set(domain: Domain, paths: Iterable[str]) -> None:
    listed = sorted(paths)
    element = to_text(etree.Element("dropped", files=json.dumps(listed))) if listed else None
    domains.set_metadata(domain, element, _PREFIX, _URI, live=False)


def read(domain: Domain) -> frozenset[str]:
    """None where somebody else has written there: what it says then gives no leave to delete anything."""
    text = domains.xml(domain)
    node = document(text).find(f"metadata/{{{_URI}}}dropped") if _URI in text else None
    if node is None:
        return frozenset()
    try:
        return frozenset(expect(from_json(node.get("files") or "[]"), list, str))
    except DAMAGE:
        return frozenset()


def end(domain: Domain) -> None:
    """Take the mark out of the configuration, and of what has been started with it."""
    live = domains.state(domain) != "stopped"
    for where in (False, True) if live else (False,):
        if domains.metadata(domain, _URI, live=where):
            domains.set_metadata(domain, None, _PREFIX, _URI, live=where)
