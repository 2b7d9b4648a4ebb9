"""The stamp in an object's own XML: whose it is, for people to read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.kind.steps import Step, simple
from kvmstate.model.change import Change
from kvmstate.model.resource import FOUND, Lifecycle
from kvmstate.xmlbind import document, meaning, to_text
from kvmstate.xmlbind.path import NAMESPACES, parse_path

STAMP = "metadata/kvmstate:resource"


def stamp(node: etree._Element, project: str, lifecycle: Lifecycle) -> None:
    """Say in the object's own XML whose it is, and what protects it. For people: the project's record decides."""
    protected = "yes" if lifecycle.prevent_destroy else None
    for name, value in (("project", project), ("preventDestroy", protected), ("deletion", lifecycle.deletion)):
        path = parse_path(f"{STAMP}/@{name}")
        path.set(node, value) if value else path.remove(node)


def stamping(change: Change, project: str, write: Callable[[], object]) -> list[Step]:
    """The step that gives an adopted object its owner's stamp by `write`: none where it has that already, where there
    is not a configuration that would keep it, where a remainder says all that there shall be, or of what is imported,
    which stays as it is."""
    seen, imported = change.observed, change.desired is not None and change.desired.origin == FOUND
    if seen is None or not seen.persistent or change.spec.remainder or imported:
        return []
    node = document(seen.xml)
    before = meaning(node)
    stamp(node, project, change.lifecycle)

    def run() -> None:
        try:
            write()
        except ConnectionFailed:
            raise
        except HostError:
            # it is for people to read; whose the object is, the record says
            pass

    return [simple("stamp", run)] if meaning(node) != before else []


def stamp_element(project: str, lifecycle: Lifecycle) -> tuple[str, str, str]:
    """The stamp as libvirt's metadata calls take it: the element, its prefix, and its namespace's URI."""
    node = etree.Element("any")
    stamp(node, project, lifecycle)
    found = parse_path(STAMP).find(node)
    assert found is not None
    attributes = {str(name): str(value) for name, value in found.attrib.items()}
    return to_text(etree.Element("resource", attributes)), "kvmstate", NAMESPACES["kvmstate"]


def unstamp(node: etree._Element) -> None:
    parse_path(STAMP).remove(node)
    if (metadata := node.find("metadata")) is not None and not len(metadata):
        node.remove(metadata)


def stamped_by(xml: str) -> str | None:
    """The project whose stamp is in an object's XML; None also where that cannot be read."""
    with suppress(HostError):
        return parse_path(f"{STAMP}/@project").text(document(xml))
    return None
