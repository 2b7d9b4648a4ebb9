"""An object's XML as its manifest wants it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import TypeVar

from lxml import etree

from kvmstate.kind.spec import Spec
from kvmstate.kind.stamps import stamp
from kvmstate.model.change import Change
from kvmstate.model.reference import Lookup, Unlocated
from kvmstate.xmlbind import (
    Difference,
    Section,
    apply_overrides,
    bindings,
    contained,
    document,
    merge,
    patch,
    withdraw,
)
from kvmstate.xmlbind.path import parse_path

S = TypeVar("S", bound=Spec)
Sec = TypeVar("Sec", bound=Section)


def written(change: Change, node: etree._Element, lookup: Lookup, project: str | None = None) -> etree._Element:
    """`node` as the change wants it: fields, remainder, overrides, name, UUID and, with `project`, the owner's stamp.

    What has a remainder gets no stamp: it says all that there shall be.
    """
    # what overrides take away goes first: a field may own that place by now
    apply_overrides(node, {path: value for path, value in change.spec.xml.items() if value is None})
    if change.former:
        list(withdrawn(change.spec, change.former, node))
    spec: Spec = change.spec
    spec.settled(patch(node, spec, lookup))
    if (rest := spec.rest) is not None and not contained(rest, node):
        merge(spec.settled(patch(rest, spec, lookup)), node)
        spec.settled(node)
    apply_overrides(node, {path: value for path, value in change.spec.xml.items() if value is not None})
    parse_path(spec.name_path).set(node, change.id.name)
    if change.uuid:
        parse_path("uuid").set(node, change.uuid)
    if project and (rest is None or change.observed or change.lifecycle.prevent_destroy):
        stamp(node, project, change.lifecycle)
    return node


def emptied(spec: S) -> S:
    """`spec`, which has none of the fields that its remainder has parts of and the manifest does not name."""
    parts = spec.parts
    return _emptied(spec, parts, "") if parts else spec


def _emptied(section: Sec, parts: Set[str], at: str) -> Sec:
    update: dict[str, object] = {}
    for b in bindings(type(section)):
        value, here = getattr(section, b.name), f"{at}{b.alias}"
        if b.name not in section.model_fields_set:
            if here in parts:
                update[b.name] = b.default
        elif value and b.holding and any(part.startswith(f"{here}.") for part in parts):
            inner = [_emptied(each, parts, f"{here}.") for each in (value if b.repeated else [value])]
            update[b.name] = inner if b.repeated else inner[0]
    return section.model_copy(update=update) if update else section


def withdrawn(spec: Spec, former: Iterable[str], node: etree._Element) -> Iterator[Difference]:
    """Take out of `node` what former remainders say, and neither the present one nor any field does; see `withdraw`."""
    fields = patch(etree.Element(node.tag), spec, Unlocated())
    stays = [apply_overrides(fields, {path: value for path, value in spec.xml.items() if value is not None})]
    if (rest := spec.rest) is not None:
        stays.append(rest)
    for text in former:
        yield from withdraw(document(text), node, stays)
