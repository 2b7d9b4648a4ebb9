"""Where the values of a resource come from: its manifest, its template, what its manifest declares in other words, a
default, or libvirt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Any

from kvmstate.kinds import BY_WORD
from kvmstate.manifest.inherit import Heir
from kvmstate.manifest.manifests import Manifests, Part
from kvmstate.manifest.nodes import Node
from kvmstate.model.resource import Resource, ResourceId

Path = tuple[str | int, ...]


class Word(StrEnum):
    MANIFEST = "manifest"
    INHERITED = "inherited"
    # what kvmstate makes of something else that is said
    DERIVED = "derived"
    DEFAULT = "default"
    LIBVIRT = "libvirt"


@dataclass(frozen=True)
class Source:
    """`file` and `line` are empty and 0 where it is written nowhere. `by` is the address of the template that it comes
    from; `kept`: which says something else by now."""

    word: Word
    file: str = ""
    line: int = 0
    by: str = ""
    kept: bool = False


@dataclass(frozen=True)
class Value:
    """A scalar of a spec, or a list without mappings in it; `path` has the names of items of lists, else their
    positions."""

    path: Path
    value: object
    source: Source


class Provenance:
    """Of one resource, `wanted` with the versions of templates, and with what it has from these since it was made. The
    values in JSON: as it is wanted (`said`), with defaults (`complete`), and as it is to be on the host (`whole`)."""

    def __init__(self, manifests: Manifests, wanted: Resource, said: Any, complete: Any, whole: Any) -> None:
        self._manifests, self._said, self._complete, self._whole = manifests, said, complete, whole
        # with the secrets that the values to be shown are without
        self._wanted = wanted.spec.model_dump(mode="json", exclude_unset=True)
        self._file = wanted.origin.file
        document = manifests.documents.get(wanted.id)
        self._prefix: Path = ()
        if isinstance(document, Part):
            self._prefix, document = _named(document.whole.node, document.inside), document.whole
        own = document.own if isinstance(document, Heir) else document
        self._own = own.node.get("spec") if own else None
        # what a template has itself, such as the volumes of its versions, is declared nowhere
        self._maker = wanted.origin.by if document is None else ""
        self._template, self._inherited = "", frozenset[str]()
        self._now = manifests.get(wanted.id) if not self._prefix else None
        if isinstance(document, Heir):
            self._template = str(document.data["spec"][document.field])
            self._inherited = frozenset(said.get("inherited", document.inherited))

    def values(self) -> Iterator[Value]:
        """All of it, in order."""
        yield from self._values(self._whole, (), ())

    def _values(self, value: Any, path: Path, places: Path) -> Iterator[Value]:
        if isinstance(value, dict) and value:
            for key, each in value.items():
                yield from self._values(each, (*path, key), (*places, key))
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            for number, each in enumerate(value):
                yield from self._values(each, (*path, item_key(each, number)), (*places, number))
        else:
            yield Value(path, value, self._source(path, places))

    def _source(self, path: Path, places: Path) -> Source:
        here = (*self._prefix, *path)
        node, steps = _deepest(self._own, here, (*self._prefix, *places))
        if node and steps == len(here):
            return Source(Word.MANIFEST, self._file, node.line)
        if _at(self._said, path, places) is None:
            return Source(Word.DEFAULT if _at(self._complete, path) is not None else Word.LIBVIRT)
        if maker := self._manifests.documents.get(ResourceId.parse(self._maker)):
            spec = maker.node.get("spec") or maker.node
            node, steps = _deepest(spec.get("defaults"), path, places)
            if node and steps == len(path):
                return Source(Word.INHERITED, self._file, node.line, self._maker)
            return Source(Word.DERIVED, self._file, (spec.get(path[0]) or spec).line)
        if self._template and {str(here[0]), "{}[{}]".format(*here[:2]) if here[1:] else ""} & self._inherited:
            return self._of_template(path, here)
        if node is None or not steps or isinstance(node.value, list):
            return Source(Word.DERIVED)
        return Source(Word.DERIVED, self._file, node.line)

    def _of_template(self, path: Path, here: Path) -> Source:
        [kind] = (kind for kind in BY_WORD.values() if kind.inherited_by)
        id_ = ResourceId(kind.word, self._template.partition("@")[0])
        document, template = self._manifests.documents.get(id_), self._manifests.get(id_)
        says = self._now.spec.model_dump(mode="json", exclude_unset=True) if self._now else {}
        if not (document and template) or (self._now and _at(says, path) != _at(self._wanted, path)):
            return Source(Word.INHERITED, by=str(id_), kept=True)
        spec = document.node.get("spec") or document.node
        node, steps = _deepest(spec.get("defaults"), here)
        if self._prefix and steps < len(here):
            # of a disk that a machine has without a word: its pool, and how it begins
            if self._own and (own := self._own.get(here[-1])):
                return Source(Word.DERIVED, self._file, own.line)
            node = spec.get(here[-1]) or node
            steps = steps or len(here)
        line = node.line if node and steps else spec.line
        return Source(Word.INHERITED, template.origin.file, line, str(id_))


def _named(node: Node, path: Path) -> Path:
    """A path of a spec, with the names of items in place of their positions."""
    found: list[str | int] = []
    at: Node | None = node.get("spec")
    for step in path:
        at = at.get(step) if at else None
        name = at.get("name") if at and isinstance(step, int) else None
        found.append(str(name.value) if name else step)
    return tuple(found)


def item_key(item: Any, number: int) -> str | int:
    """What an item of a list is called in a path."""
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) and name else number


def _deepest(node: Node | None, path: Path, places: Path = ()) -> tuple[Node | None, int]:
    """The node that this leads to, or the last on the way, and after how many steps. An item that has no name there is
    told by its place."""
    for number, (step, place) in enumerate(zip_longest(path, places)):
        below = node.get(step) if node else None
        if below is None and node and isinstance(node.value, list):
            items: list[Node] = node.value
            below = next((each for each in items if (name := each.get("name")) and name.value == step), None)
            if below is None and (unnamed := node.get(place)) and unnamed.get("name") is None:
                below = unnamed
        if below is None:
            return node, number
        node = below
    return node, len(path)


def _at(value: Any, path: Path, places: Path = ()) -> Any:
    for step, place in zip_longest(path, places):
        if isinstance(value, list):
            known = {item_key(each, number): each for number, each in enumerate(value)}
            value = known.get(step, known.get(place))
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value
