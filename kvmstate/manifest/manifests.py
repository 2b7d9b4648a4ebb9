"""What loading gives: the resources, and where each of their fields is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kvmstate.errors import Problem
from kvmstate.kind import Fault, Reference
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.sources import Source
from kvmstate.manifest.text import Reader, problem
from kvmstate.manifest.translate import spell
from kvmstate.manifest.values import Reads
from kvmstate.model.resource import Resource, ResourceId


@dataclass
class Document:
    """One of a text: where it starts, and what it says. `node` also has the places of all that."""

    line: int
    column: int
    data: Any
    source: Source
    raw: bytes = b""

    @classmethod
    def of(cls, node: Node, source: Source) -> Document:
        made = cls(node.line, node.column, node.data(), source)
        made.node = node
        return made

    @cached_property
    def node(self) -> Node:
        """Read from the text once more: it is asked for where something is wrong, of few documents."""
        reader = Reader(self.source.label, self.source.is_template)
        found = reader.documents(reader.decode(self.raw))
        return next(node for node in found if (node.line, node.column) == (self.line, self.column))

    def way(self, part: str, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """Where in it a field of `part` (spec, metadata, lifecycle) of its resource is."""
        return (part, *path)


class Part(Document):
    """What a document declares in its spec, at `inside`: another resource, whose fields stand there."""

    def __init__(self, whole: Document, inside: tuple[str | int, ...]) -> None:
        self.whole, self.inside = whole, inside
        super().__init__(whole.line, whole.column, whole.data, whole.source)

    @property
    def node(self) -> Node:
        return self.whole.node

    def way(self, part: str, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        return ("spec", *self.inside, *((part,) if part == "lifecycle" else ()), *path)


@dataclass(frozen=True)
class Manifests:
    """Every resource, sorted by its address, whatever files they came from.

    `dangling` are references to what is not in the manifests: it may be on the host. `empty` are the folders among what
    was asked for in which there are none. `reads` are the values that templates read, None where that cannot be told;
    `warnings` are for people, and no errors.
    """

    resources: tuple[Resource, ...] = ()
    dangling: tuple[tuple[Resource, Reference], ...] = ()
    files: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    reads: Reads = None
    warnings: tuple[str, ...] = ()
    documents: Mapping[ResourceId, Document] = field(default_factory=dict, repr=False, compare=False)

    def get(self, id: ResourceId) -> Resource | None:
        """The resource of this address, if it is declared."""
        return self._by_id.get(id)

    @cached_property
    def _by_id(self) -> dict[ResourceId, Resource]:
        return {resource.id: resource for resource in self.resources}

    def at(self, id: ResourceId, path: tuple[str | int, ...] = (), part: str = "spec") -> tuple[str, int, int]:
        """File, line and column of a field of `part` (spec, metadata, lifecycle), or of what encloses it.

        Items of lists are named by position or by their key (`("disks", "root", "bus")`). Lines of a template are
        those after rendering. Raises KeyError for a resource that is not in the manifests.
        """
        document = self.documents[id]
        node, resource = document.node, self.get(id)
        for step in document.way(part, path):
            child = node.get(step) or _keyed(node, step)
            if child is None:
                break
            node = child
        return resource.origin.file if resource else "", node.line, node.column

    def place(self, id: ResourceId, path: tuple[str | int, ...]) -> tuple[str, int, int, str]:
        """Where `at` says, and how a field of the spec is spelled there."""
        return *self.at(id, path), spell(self.documents[id].way("spec", path))


def _keyed(node: Node, key: str | int) -> Node | None:
    """The item of a list one of whose values is the key."""
    if not isinstance(node.value, list):
        return None
    items: list[Node] = node.value
    for item in items:
        if isinstance(item.value, dict) and any(child.value == key for child, _, _ in item.value.values()):
            return item
    return None


@dataclass(frozen=True)
class Loaded:
    """A resource on its way: with its document and its file."""

    resource: Resource
    document: Document
    source: Source

    def place(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column of a field of the spec."""
        node = self.document.node
        for step in self.document.way("spec", path):
            node = node.get(step) or node
        return node.line, node.column

    def problem(self, message: str, path: tuple[str | int, ...], hint: str = "") -> Problem:
        """A problem at a field of the spec."""
        where = spell(self.document.way("spec", path)) if path else ""
        message = self.resource.named(message)
        return problem(self.source.label, self.source.is_template, message, *self.place(path), hint, where)

    def fault(self, fault: Fault) -> Problem:
        """Tell it, with the place of the other field where two do not go together."""
        hint = fault.hint
        if fault.beside:
            hint = "; ".join(filter(None, [hint, f"spec.{spell(fault.beside)} is at {self.address(fault.beside)}"]))
        return self.problem(fault.message, fault.path, hint)

    def address(self, path: tuple[str | int, ...] = ()) -> str:
        """Where it is, to be named in another's problem."""
        whole = not self.document.way("spec", path)[1:]
        line, column = (self.document.line, self.document.column) if whole else self.place(path)
        by = self.resource.origin.by
        return f"{self.source.label}:{line}:{column}" + (f" (of {by})" if by else "")
