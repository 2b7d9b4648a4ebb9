"""Taking out of a document what a section's fields say: the reverse of `patch`.

What goes is found by trying: whatever `patch` brings back can go. So this needs to know nothing of how fields are
written, and is right by construction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar, cast

from lxml import etree

from kvmstate.model.reference import Lookup
from kvmstate.xmlbind.binding import Binding, Section, bindings
from kvmstate.xmlbind.document import patch, read
from kvmstate.xmlbind.remainder import meaning

S = TypeVar("S", bound=Section)


def strip(node: etree._Element, spec: Section, lookup: Any = None) -> etree._Element:
    """What is left of `node` without all that patching `spec` brings back. `node` must be as `spec` says.

    Items of lists leave their key behind, where anything else of them is left.
    """
    rest = copy.deepcopy(node)
    order = {element: number for number, element in enumerate(rest.iter())}
    lists = [b for b in bindings(type(spec)) if b.xml and b.apart and b.name in spec.model_fields_set]
    left: list[tuple[etree._Element, etree._Element]] = []
    holders = {found.getparent() for b in lists for found in b.path.find_all(rest)}
    for b in lists:
        left += _strip_items(rest, b, spec, lookup)
    others = owning(spec, *(spec.model_fields_set - {b.name for b in lists}))
    _reduce(rest, others, lookup, [parent for parent, _ in left])
    for parent, item in left:
        parent.append(item)
    for holder in holders:
        if holder is not None and not (len(holder) or holder.attrib) and (above := holder.getparent()) is not None:
            # it was there for its items, which bring it back
            above.remove(holder)
    for parent in rest.iter():
        if len(parent):
            parent[:] = sorted(parent, key=order.__getitem__)
    return rest


def owning(spec: S, *names: str, **values: object) -> S:
    """`spec` with these fields alone as its own, and others set to these values."""
    return cast("S", _plain(type(spec)).model_copy(update={**{n: getattr(spec, n) for n in names}, **values}))


@cache
def _plain(cls: type[Section]) -> Section:
    """With its defaults. Copying it is quicker than constructing it."""
    return cls.model_construct()


def _strip_items(
    node: etree._Element, b: Binding, spec: Section, lookup: Lookup
) -> list[tuple[etree._Element, etree._Element]]:
    """Takes the items out of `node`: what is left of each, and its parent."""
    items, left, there = getattr(spec, b.name), [], b.find_all(node)
    # among others of their tag they keep their place
    wholly = len(items) == len(b.path.find_all(node))
    if b.xml and b.xml.open:
        known = {b.item_key(item): item for item in items}
        there = [found for found in there if b.item_key(read(b, found, lookup)) in known]
    for found, item in zip(there, items, strict=True):
        parent = found.getparent()
        assert parent is not None
        parent.remove(found)
        # alone in a document, so that trying is quick
        shell = etree.Element(node.tag)
        b.path.parent().ensure(shell).append(found)
        sole = owning(spec, **{b.name: [item]})
        wholly = wholly and meaning(patch(etree.Element(node.tag), sole, lookup)) == meaning(shell)
        _reduce(shell, sole, lookup, [found], partial(_is, b, item, found, lookup))
        left.append((parent, found))
    return [] if wholly else left


def _is(b: Binding, item: object, found: etree._Element, lookup: Lookup) -> bool:
    """Whether an element still says which item it is."""
    return not b.key or b.item_key(read(b, found, lookup)) == b.item_key(item)


def _reduce(
    node: etree._Element,
    spec: Section,
    lookup: Lookup,
    kept: list[etree._Element],
    alone: Callable[[], bool] | None = None,
) -> None:
    """`kept` is what must stay, as empty as it may be, of an item that is `alone` in a document still as that item.
    Else what is not touched is set apart."""
    written = patch(etree.Element(node.tag), spec, lookup)
    apart: list[tuple[etree._Element, etree._Element]] = []

    def restored() -> bool:
        if alone and not alone():
            return False
        return bool(meaning(patch(copy.deepcopy(node), spec, lookup)) == target)

    def rejoin() -> None:
        while apart:
            parent, child = apart.pop()
            parent.append(child)

    if not alone:
        _set_apart(node, [written], apart)
    target = meaning(node)
    if apart and not restored():
        # something is written with a look at what was set apart
        rejoin()
        target = meaning(node)
    stays = [*kept, *(parent for parent, _ in apart)]
    keep = {e for each in stays for e in (each, *each.iterancestors())}
    _visit(node, [written], restored, keep)
    rejoin()


def _set_apart(
    node: etree._Element, like: list[etree._Element], apart: list[tuple[etree._Element, etree._Element]]
) -> None:
    """Out of the way: elements that patching never touches."""
    for child in list(node):
        alike = [other for one in like for other in one if other.tag == child.tag]
        if alike:
            _set_apart(child, alike, apart)
        else:
            node.remove(child)
            apart.append((node, child))


def _visit(
    node: etree._Element, like: list[etree._Element], restored: Callable[[], bool], keep: set[etree._Element]
) -> None:
    """Try each element, then each attribute and text of those that must stay."""
    # the last first: what an element says (a source) is written before what qualifies it (a driver)
    for child in reversed(list(node)):
        alike = [other for one in like for other in one if other.tag == child.tag]
        place = node.index(child)
        if child not in keep:
            node.remove(child)
            if restored():
                continue
            node.insert(place, child)
        _visit(child, alike, restored, keep)
    for name in [name for name in node.attrib if any(name in one.attrib for one in like)]:
        before = list(node.attrib.items())
        del node.attrib[name]
        if not restored():
            # in their order
            node.attrib.clear()
            node.attrib.update(before)
    if node.text and any(one.text for one in like):
        text, node.text = node.text, None
        if not restored():
            node.text = text
