"""Reading sections out of XML, and writing them into it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cache
from typing import Any, TypeVar, cast

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind.binding import Binding, Only, Section, bindings, owned, variant
from kvmstate.xmlbind.codecs import Element, Scalar
from kvmstate.xmlbind.exact import says_the_same
from kvmstate.xmlbind.path import parse_path

S = TypeVar("S", bound=Section)
Convert = Callable[[str], object]
# Of a section the fields that are read
Fields = Callable[[type[Section]], Iterable[Binding]]
_PARSER = etree.XMLParser(remove_blank_text=True, resolve_entities=False, no_network=True, huge_tree=False)


def document(text: str) -> etree._Element:
    """The document element. White space between elements is dropped: `patch` indents again. Raises HostError for what
    is not XML: libvirt writes some texts as they are, such as the name of a network filter."""
    try:
        return element(text)
    except etree.XMLSyntaxError as error:
        hint = "a name with < > & or a quote in it may be why: undefine with virsh what has it"
        raise HostError(f"what libvirt tells of it is not XML: {error.msg}", hint) from None


def element(text: str) -> etree._Element:
    """The same of what people wrote. Raises XMLSyntaxError."""
    return etree.fromstring(text.encode(), _PARSER)


def to_text(node: etree._Element) -> str:
    node = copy.deepcopy(node)
    etree.indent(node)
    return etree.tostring(node, encoding="unicode")


def canonical(text: str) -> str:
    """One text per meaning: W3C canonical XML, without white space between elements."""
    return without(text, ())


def without(text: str, volatile: Iterable[str]) -> str:
    """Write XML as `canonical` does, without the elements and attributes at these XPaths."""
    root = document(text)
    for xpath in volatile:
        for found in cast("list[Any]", root.xpath(xpath)):
            if isinstance(found, etree._Element):
                parent = found.getparent()
                assert parent is not None
                parent.remove(found)
            else:
                del found.getparent().attrib[found.attrname]
    return etree.tostring(root, method="c14n").decode()


def parse(cls: type[S], node: etree._Element, lookup: Any = None, fields: Fields = bindings) -> S:
    """The fields that are in the XML, as a section; of it, and of what it holds, only these `fields`. XML that nobody
    modelled is not an error.

    What libvirt says is taken as it is: values are converted, not validated.
    """
    values: dict[str, Any] = {}
    places = _places(cls, fields)
    _take(places, node, True, values, lookup, fields)
    for b in places.others:
        if b.repeated:
            all_of_it = (read(b, each, lookup, fields) for each in b.find_all(node))
            if items := [value for value in all_of_it if value is not None]:
                values[b.name] = items
        elif (each := b.find(node)) is not None and (value := read(b, each, lookup, fields)) is not None:
            values[b.name] = value
    return cast("S", _blank(cls).model_copy(update=values))


@dataclass
class _Place:
    """An element, and the fields of a section that are in it: those that are the text of an attribute, or its own, with
    what converts that; those that are all of it, one or an item of a list; and `below` the elements in it that have
    some, by their tags. The `others` have to be looked for, as the tags on the way do not tell which element it is."""

    attributes: dict[str, list[tuple[str, Convert]]] = dataclass_field(default_factory=dict)
    texts: list[tuple[str, Convert]] = dataclass_field(default_factory=list)
    whole: list[Binding] = dataclass_field(default_factory=list)
    items: list[Binding] = dataclass_field(default_factory=list)
    below: dict[str, _Place] = dataclass_field(default_factory=dict)
    others: list[Binding] = dataclass_field(default_factory=list)


@cache
def _places(cls: type[Section], fields: Fields) -> _Place:
    root = _Place()
    for b in (b for b in fields(cls) if b.xml):
        if b.is_looked_for:
            root.others.append(b)
            continue
        place = root
        for step in b.path.steps:
            place = place.below.setdefault(step.tag, _Place())
        if b.repeated:
            place.items.append(b)
        elif b.holding or not isinstance(b.codec, Scalar):
            place.whole.append(b)
        elif b.path.attribute:
            place.attributes.setdefault(b.path.attribute, []).append((b.name, b.codec.read))
        else:
            place.texts.append((b.name, b.codec.read))
    return root


def _take(
    place: _Place, node: etree._Element, first: bool, values: dict[str, Any], lookup: Any, fields: Fields
) -> None:
    """Read what is in an element. Of several on one way the `first` one counts, but for lists.

    It is the XML that leads to the fields: most documents have few of all that there are.
    """
    if first:
        for attribute, text in node.items() if place.attributes else ():
            for name, convert in place.attributes.get(str(attribute), ()):
                if text and (value := convert(str(text))) is not None:
                    values[name] = value
        if place.texts and (text := (node.text or "").strip()):
            for name, convert in place.texts:
                if (value := convert(text)) is not None:
                    values[name] = value
        for b in place.whole:
            one = node if b.picks(node) else next(filter(b.picks, node.itersiblings(node.tag)), None)
            if one is not None and (value := read(b, one, lookup, fields)) is not None:
                values[b.name] = value
    for b in place.items:
        if b.picks(node) and (value := read(b, node, lookup, fields)) is not None:
            values.setdefault(b.name, []).append(value)
    if below := place.below:
        known = set()
        for child in node:
            if under := below.get(child.tag):
                _take(under, child, first and child.tag not in known, values, lookup, fields)
                known.add(child.tag)


@cache
def _blank(cls: type[Section]) -> Section:
    """With nothing in any field, as a default is the manifest's. Copying it is quicker than constructing it."""
    return cls.model_construct(_fields_set=set(), **{b.name: None if b.holds else b.default for b in bindings(cls)})


def read(b: Binding, node: etree._Element, lookup: Any = None, fields: Fields = bindings) -> object:
    """The value of a field in the element that its path leads to; None when it says nothing."""
    if b.holding:
        section = parse(variant(b.sections, node), node, lookup, fields)
        return None if b.xml and b.xml.shared and not section.model_fields_set else section
    codec = b.codec
    if isinstance(codec, Element):
        return codec.read(node, lookup)
    text = node.get(b.path.attribute) if b.path.attribute else (node.text or "").strip()
    return None if text is None or text == "" else codec.read(text)


def patch(node: etree._Element, spec: Section, lookup: Any = None) -> etree._Element:
    """Write the fields that the manifest owns (`model_fields_set`); leave everything else as it was.

    None removes, before anything is set: fields may share an element. Items of keyed lists are edited where they are;
    new ones follow the last of their kind.
    """
    said = [(b, getattr(spec, b.name)) for b in owned(spec) if b.xml]
    for b, value in sorted(said, key=lambda each: each[1] is not None):
        assert b.xml is not None
        codec = b.codec
        if value is None and b.xml.lasting:
            continue
        if b.repeated:
            _patch_items(node, b, [] if value is None else value, lookup)
        elif b.holding and value is not None:
            patch(_switch(_ensure(node, b, type(value)), b, value), value, lookup)
        elif b.xml.shared:
            _clear(b.path.find(node), b.sections)
        elif isinstance(codec, Element) and not b.holding:
            found = b.path.find(node)
            # what says so already keeps its spelling
            if found is not None and value is not None and codec.read(found, lookup) == value:
                continue
            target = found if found is not None or value is None else b.path.ensure(node)
            if target is not None:
                codec.write(target, value, lookup)
        elif value is None or not isinstance(codec, Scalar):
            b.remove(node)
        elif (found := b.path.find(node)) is None or not b.same(value, read(b, found, lookup)):
            # what means the same stays as it is: `q35` is not a newer version of the machine type that was pinned
            b.path.set(node, codec.write(value))
    return node


def _ensure(node: etree._Element, b: Binding, section: type[Section]) -> etree._Element:
    found = b.find(node)
    return found if found is not None else _made(b.make(node), section)


def _made(node: etree._Element, section: type[Section]) -> etree._Element:
    for path, value in section.made_with.items():
        parse_path(path).set(node, value)
    return node


def _clear(node: etree._Element | None, sections: tuple[type[Section], ...]) -> None:
    if node is None:
        return
    for f in (f for section in sections for f in bindings(section) if f.xml is not None):
        f.path.remove(node)


def _switch(node: etree._Element, b: Binding, value: Section) -> etree._Element:
    """Drop what the other members of a union would have written."""
    for other in b.sections:
        if other is not type(value):
            for f in bindings(other):
                if f.xml is not None and not any(f.xml == mine.xml for mine in bindings(type(value))):
                    f.path.remove(node)
    return node


def _patch_items(node: etree._Element, b: Binding, items: list[object], lookup: Lookup) -> None:
    present = b.find_all(node)[: 1 if isinstance(items, Only) else None]
    values = [read(b, found, lookup) for found in present]
    parent = b.path.parent().ensure(node)
    place = max((parent.index(found) + 1 for found in present), default=len(parent))
    if b.key:
        known = {b.item_key(value): found for value, found in zip(values, present, strict=True)}
        kept = [known.get(b.item_key(item)) for item in items]
    elif b.one_or_more:
        kept = [found for _, found in b.paired(items, present)]
    else:
        kept = _in_place(items, values, present)
    for found in present if not (b.xml and b.xml.open) else ():
        if found not in kept:
            parent.remove(found)
            place -= 1
    for item, stays in zip(items, kept, strict=True):
        child = stays if stays is not None else b.make_item(parent, item)
        if stays is None:
            if isinstance(item, Section):
                _made(child, type(item))
            parent.insert(place, child)
            place += 1
        _write_item(child, b, item, lookup, new=stays is None)


def _in_place(items: list[object], values: list[object], present: list[etree._Element]) -> list[etree._Element | None]:
    """Of a list whose items have no key, those at the beginning that say what is wanted keep what else they have."""
    kept: list[etree._Element | None] = [None] * len(items)
    for number, (item, value, found) in enumerate(zip(items, values, present, strict=False)):
        names = item.model_fields_set if isinstance(item, Section) and not item.exact else ()
        holds = bool(names) and all(getattr(item, n) == getattr(value, n, None) for n in names)
        if not (holds or says_the_same(item, value)):
            break
        kept[number] = found
    return kept


def _write_item(node: etree._Element, b: Binding, item: Any, lookup: Any, new: bool) -> None:
    if b.holding:
        patch(_switch(node, b, item), item, lookup)
        section: type[Section] = type(item)
        key = next((inner for inner in bindings(section) if inner.name == b.key), None)
        if key is not None and key.name in item.model_fields_set and isinstance(key.codec, Element):
            name, place = getattr(item, key.name), key.path.ensure(node)
            if new and name is not None:
                # what the other fields say may be name enough
                key.codec.write(place, None, lookup)
            if key.codec.read(place, lookup) != name:
                # what it was told apart by is another by now: its name stays
                key.codec.write(place, name, lookup)
    elif isinstance(b.codec, Scalar):
        text = b.codec.write(item)
        if b.path.attribute:
            node.set(b.path.attribute, text)
        else:
            node.text = text
    else:
        b.codec.write(node, item, lookup)
