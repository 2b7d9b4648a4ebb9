"""YAML text to nodes.

Built from the parser's events, not by its composer, so that every bound (depth, size, aliases) holds while reading
and nothing recurses further than MAX_DEPTH.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from kvmstate.manifest.nodes import Node
from kvmstate.manifest.scalars import describe, resolve

MAX_DEPTH = 64
MAX_NODES = 200_000
_CORE = "tag:yaml.org,2002:"
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}
# What XML 1.0 cannot hold: https://www.w3.org/TR/xml/#charsets
_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Refused(Exception):
    """The rest of the document cannot be used."""


class Composer:
    """Nodes of one document from a stream of events; what is wrong goes to `report`."""

    def __init__(self, events: Iterator[object], first_line: int, report: Callable[..., None]) -> None:
        self.events, self.first_line, self.report = events, first_line, report
        self.anchors: dict[str, Node | None] = {}
        self.count = 0

    def place(self, event: Any) -> tuple[int, int]:
        mark = event.start_mark
        return mark.line + self.first_line, mark.column + 1

    def refuse(self, event: Any, message: str, hint: str = "") -> Refused:
        self.report(message, *self.place(event), hint)
        return Refused()

    def node(self, event: Any, depth: int = 0) -> Node:
        """The node that starts with this event. Raises Refused."""
        self.count += 1
        if self.count > MAX_NODES:
            raise self.refuse(event, f"more than {MAX_NODES:,} values in one file")
        if depth > MAX_DEPTH:
            raise self.refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        # events are of these very classes; asking for subclasses takes longer, for each of many
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event)
        tag = self._tag(event) if event.tag else ""
        line, column = self.place(event)
        if kind is yaml.ScalarEvent:
            node = Node(self._scalar(event, tag), line, column, raw=event.value)
            if event.anchor:
                self.anchors[event.anchor] = node
            return node
        if event.anchor:
            self.anchors[event.anchor] = None
        if kind is yaml.SequenceStartEvent:
            items = self._items(depth)
            node = Node(items, line, column, items)
        else:
            pairs = self._pairs(depth)
            node = Node(pairs, line, column, (child for child, _, _ in pairs.values()))
        if depth + node.height > MAX_DEPTH:
            raise self.refuse(event, f"nested deeper than {MAX_DEPTH} levels by aliases")
        if node.size > MAX_NODES:
            raise self.refuse(event, f"aliases that stand for more than {MAX_NODES:,} values")
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        node = self.anchors.get(event.anchor)
        if node is not None:
            return node
        message = f"there is no anchor &{event.anchor} above this alias"
        if event.anchor in self.anchors:
            message = f"the alias *{event.anchor} stands inside its own anchor"
        self.report(message, *self.place(event))
        return Node(None, *self.place(event))

    def _tag(self, event: Any) -> str:
        tag = event.tag
        known = {"str", *_TYPES} if isinstance(event, yaml.ScalarEvent) else set()
        known |= {"seq"} if isinstance(event, yaml.SequenceStartEvent) else set()
        known |= {"map"} if isinstance(event, yaml.MappingStartEvent) else set()
        short = str(tag).removeprefix(_CORE)
        if tag == "!" or (tag.startswith(_CORE) and short in known):
            return "str" if tag == "!" else short
        hint = "manifests are plain data; leave the tag out"
        self.report(f"the tag {tag[:60]} is not supported", *self.place(event), hint)
        return ""

    def _scalar(self, event: Any, tag: str) -> object:
        text = event.value
        # only an escape can bring one in: the text itself was searched as a whole
        if event.style == '"' and (bad := _UNUSABLE.search(text)):
            self.report(f"the control character U+{ord(bad[0]):04X} cannot be used", *self.place(event))
            return _UNUSABLE.sub("?", text)
        if tag == "str" or not (event.implicit[0] or tag):
            return text
        try:
            value = resolve(text)
        except ValueError as error:
            self.report(str(error), *self.place(event))
            return 0
        if tag and not isinstance(value, _TYPES[tag]):
            self.report(f"{text[:60]!r} is not what the tag !!{tag} says", *self.place(event))
        return value

    def _items(self, depth: int) -> list[Node]:
        items = []
        while type(event := next(self.events)) is not yaml.SequenceEndEvent:
            items.append(self.node(event, depth + 1))
        return items

    def _pairs(self, depth: int) -> dict[str, tuple[Node, int, int]]:
        pairs: dict[str, tuple[Node, int, int]] = {}
        merged: list[Node] = []
        merges: tuple[int, int] | None = None
        while type(event := next(self.events)) is not yaml.MappingEndEvent:
            line, column = self.place(event)
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if key.value == "<<" and getattr(event, "implicit", (False,))[0]:
                if merges:
                    first, at = merges
                    hint = "name all in one: <<: [*one, *other]"
                    self.report(f"duplicate key <<: here and at {first}:{at}", line, column, hint)
                merges = merges or (line, column)
                merged += self._merge(event, value)
            elif not isinstance(key.value, str):
                hint = f'put it in quotes: "{key.raw}"' if key.raw else ""
                if isinstance(key.value, dict) and column > 1:
                    hint = "templates ({{ … }}) are rendered in files named *.yaml.j2 only"
                self.report(f"a key must be text, but this is {describe(key.value)}", line, column, hint)
            elif key.value in pairs:
                _, first, at = pairs[key.value]
                self.report(f"duplicate key {key.value[:60]}: here and at {first}:{at}", line, column)
            else:
                pairs[key.value] = (value, line, column)
        for source in merged:
            self.count += len(source.value)
            for name, pair in source.value.items():
                pairs.setdefault(name, pair)
        return pairs

    def _merge(self, event: object, value: Node) -> list[Node]:
        sources = value.value if isinstance(value.value, list) else [value]
        if all(isinstance(source.value, dict) for source in sources):
            return sources
        self.report("<< merges mappings, but this is something else", *self.place(event))
        return []
