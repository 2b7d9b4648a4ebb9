"""The contract that every kind of resource fulfils.

A kind is one folder under `kinds/`: `spec.py` declares its model (what a manifest may write, where that lives in
libvirt's XML, what a change costs) and `ops.py` works on a host. The model is light to import; `ops` is loaded when a
host is first talked to.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, get_args

from lxml import etree
from pydantic import TypeAdapter, field_validator

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.model.change import Change
from kvmstate.model.reference import Unlocated
from kvmstate.model.resource import Lifecycle, Model, Resource, ResourceId
from kvmstate.xmlbind import (
    Binding,
    Difference,
    Overrides,
    Remainder,
    Section,
    apply_overrides,
    bindings,
    contained,
    document,
    meaning,
    merge,
    patch,
    to_text,
    withdraw,
)
from kvmstate.xmlbind.path import NAMESPACES, parse_path
from kvmstate.xmlbind.spelling import spelled

if TYPE_CHECKING:
    # libvirt is loaded when a host is first talked to
    from kvmstate.host import Host
    from kvmstate.host.permit import Permit


@dataclass(frozen=True)
class Fault:
    """What would not work of a spec that is well-formed; `path` is that of a field in it."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Claim:
    """What one resource of a host has for itself: `what` is it, in words, and `value` it. IP networks overlap, all else
    is the same or another."""

    path: tuple[str | int, ...]
    what: str
    value: str | IPv4Network | IPv6Network


# stands in a remainder that `import` writes
PARTS = re.compile(r"<\?kvmstate parts of ([\w.]+(?:, [\w.]+)*)\?>")


class Declaration(Model):
    """The spec of a kind."""

    def faults(self) -> Iterable[Fault]:
        """What libvirt would refuse, or take and not do."""
        return ()

    def claims(self) -> Iterable[Claim]:
        """What no other resource of the project may have as well."""
        return ()

    def id_name(self, name: str) -> str:
        """The name within the kind's address; `name` is metadata's."""
        return name

    def selects(self, resource: Resource) -> bool:
        """Whether it chooses this resource, by what that says of itself; what is named is a reference."""
        return False


class Spec(Section, Declaration):
    """The spec of a kind with objects on hosts: the model of libvirt's document element."""

    element: ClassVar[str]
    xml: Overrides = {}
    remainder: Remainder = None

    @field_validator("remainder")
    @classmethod
    def _same_element(cls, text: str | None) -> str | None:
        if text is not None and document(text).tag != cls.element:
            raise ValueError(f"expected one <{cls.element}> element")
        return text

    def settled(self, node: etree._Element) -> etree._Element:
        """`node`, which these fields were written into, without what depended on their old values."""
        return node

    @property
    def parts(self) -> frozenset[str]:
        """The fields that the remainder says it has parts of: these go with a field that left the manifest."""
        found = PARTS.search(self.remainder or "")
        return frozenset(found[1].split(", ")) if found else frozenset()

    @property
    def rest(self) -> etree._Element | None:
        """The remainder, read."""
        return spelled(document(self.remainder)) if self.remainder else None


S = TypeVar("S", bound=Spec)
Sec = TypeVar("Sec", bound=Section)


@dataclass(frozen=True)
class Kind:
    """One kind: `name` as manifests write it, `word` as libvirt does, `spec` a Spec or a union of them.

    `volatile` are the XPaths of what libvirt's XML says anew while nobody changes anything. A kind that is not
    `on_host` lives in manifests alone: it has no object there and no `ops`, and plans leave it out.
    """

    name: str
    word: str
    title: str
    spec: Any
    holds_data: bool = False
    volatile: tuple[str, ...] = ()
    on_host: bool = True

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.spec)

    @property
    def specs(self) -> tuple[type[Declaration], ...]:
        """The members of the union, or the one model."""
        return (self.spec,) if isinstance(self.spec, type) else self._members(self.spec)

    def _members(self, annotation: Any) -> tuple[type[Declaration], ...]:
        if isinstance(annotation, type):
            return (annotation,) if issubclass(annotation, Declaration) else ()
        return tuple(member for arg in get_args(annotation) for member in self._members(arg))

    @cached_property
    def ops(self) -> Any:
        """The module that works on a host: observe, complete, steps (see `kvmstate.kinds`)."""
        return importlib.import_module(f"{self.specs[0].__module__.rpartition('.')[0]}.ops")

    def deletion(self, chosen: str | None) -> str:
        """delete or orphan: as the lifecycle says, else orphan for what holds data."""
        return chosen or ("orphan" if self.holds_data else "delete")


class Gate(Protocol):
    """Gives leave for what cannot be undone, as the change that asks for it allows; see `kvmstate.apply.gate`."""

    def removal(self, change: Change) -> Permit:
        """To delete or undefine the object, also to make it anew."""

    def renaming(self, change: Change) -> Permit:
        """To take the object away under its old name, and define it under the new one."""

    def filling(self, change: Change) -> Permit:
        """To write over what is in a volume that this run has just made."""

    def growing(self, change: Change) -> Permit:
        """To resize a volume that the project owns."""

    def made(self, change: Change, identity: str) -> None:
        """Tell which object has been made for a change, before anything is put into it."""


@dataclass(frozen=True)
class Context:
    """What the steps of a change work with."""

    host: Host
    project: str
    gate: Gate


# How far a step has come: done so far, and in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Step:
    """About one libvirt call. `run` may be called again: it looks at the host before it acts."""

    describe: str
    run: Callable[[Progress], None]


def simple(describe: str, run: Callable[[], object]) -> Step:
    """A step that has no progress to tell."""
    return Step(describe, lambda progress: (run(), None)[1])


# May take a change back that failed with this error, telling what it does. Returns the error to be told: Reverted when
# the object is again what it was before the change.
Undo = Callable[[HostError, Callable[[str], None]], HostError]


@dataclass(frozen=True)
class Precaution:
    """Steps before and after a change's own ones; what to do when any but those `before` fails."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    undo: Undo | None = None


def written(change: Change, node: etree._Element, lookup: Any, project: str | None = None) -> etree._Element:
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
    parse_path("name").set(node, change.id.name)
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
    update: dict[str, Any] = {}
    for b in bindings(type(section)):
        value, here = getattr(section, b.name), f"{at}{b.alias}"
        if b.name not in section.model_fields_set:
            if here in parts:
                update[b.name] = b.default
        elif value and b.sections and any(part.startswith(f"{here}.") for part in parts):
            inner = [_emptied(each, parts, f"{here}.") for each in (value if b.repeated else [value])]
            update[b.name] = inner if b.repeated else inner[0]
    return section.model_copy(update=update) if update else section


def withdrawn(spec: Spec, former: Iterable[str], node: etree._Element) -> Iterator[Difference]:
    """Take out of `node` what former remainders say, and neither the present one nor any field does; see `withdraw`."""
    fields = patch(etree.Element(node.tag), _with_keys(spec), Unlocated())
    stays = [apply_overrides(fields, {path: value for path, value in spec.xml.items() if value is not None})]
    if (rest := spec.rest) is not None:
        stays.append(rest)
    for text in former:
        yield from withdraw(document(text), node, stays)


def _with_keys(spec: Spec) -> Spec:
    """Items of lists say what tells them apart, also where that is the default."""
    keyed = [b for b in bindings(type(spec)) if b.key and b.name in spec.model_fields_set]
    return spec.model_copy(
        update={
            b.name: [
                item.model_copy(update={str(b.key): getattr(item, str(b.key))}) for item in getattr(spec, b.name) or []
            ]
            for b in keyed
        }
    )


STAMP = "metadata/kvmstate:resource"


def stamp(node: etree._Element, project: str, lifecycle: Lifecycle) -> None:
    """Say in the object's own XML whose it is, and what protects it. For people: the project's record decides."""
    protected = "yes" if lifecycle.prevent_destroy else None
    for name, value in (("project", project), ("preventDestroy", protected), ("deletion", lifecycle.deletion)):
        path = parse_path(f"{STAMP}/@{name}")
        path.set(node, value) if value else path.remove(node)


def stamping(change: Change, project: str, write: Callable[[], object]) -> list[Step]:
    """The step that gives an adopted object its owner's stamp by `write`: none where it has that already, where there
    is no configuration that would keep it, or where a remainder says all that there shall be."""
    seen = change.observed
    if seen is None or not seen.persistent or change.spec.remainder:
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
    """The project whose stamp is in an object's XML."""
    return parse_path(f"{STAMP}/@project").text(document(xml))


@dataclass(frozen=True)
class Reference:
    """`path` of the field that names another resource, as positions in the manifest are kept."""

    path: tuple[str | int, ...]
    target: ResourceId


def references(spec: Model | None, at: tuple[str | int, ...] = ()) -> Iterator[Reference]:
    """Every resource that a spec names, by its `Ref` fields."""
    if not isinstance(spec, Section):
        return
    for b in _referring(type(spec)):
        value = getattr(spec, b.name)
        if value is None:
            continue
        if b.ref:
            yield Reference((*at, b.alias), ResourceId(b.ref, str(value)))
        elif b.sections and b.repeated:
            for index, item in enumerate(value):
                yield from references(item, (*at, b.alias, index))
        elif b.sections and isinstance(value, Section):
            yield from references(value, (*at, b.alias))


@cache
def _referring(section: type[Section]) -> tuple[Binding, ...]:
    """The fields that name a resource, or hold sections with such fields: few of all."""
    return tuple(b for b in bindings(section) if b.ref or any(_referring(below) for below in b.sections))
