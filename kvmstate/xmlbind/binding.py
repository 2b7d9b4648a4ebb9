"""The declarations: what a Section's fields say about themselves."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from os.path import basename
from typing import Any, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin

from lxml import etree

from kvmstate.model.effect import Cost, Effect
from kvmstate.model.field import LocalFile, Ref
from kvmstate.model.resource import Model
from kvmstate.xmlbind.codecs import NUMBER, TEXT, YES_NO, Element, Scalar
from kvmstate.xmlbind.later import Later
from kvmstate.xmlbind.path import Path, parse_path

S = TypeVar("S", bound="Section")


@dataclass(unsafe_hash=True)
class Xml:
    """Where a field lives, relative to its section's element: `bridge/@name`, `memory`, `ip/dhcp/host`.

    `same` says when a wanted and a seen value mean the same although they differ (`q35`, `pc-q35-7.2`).
    A `shared` section lives in an element with others: clearing it takes its own fields only.
    A `lasting` value stays when the manifest no longer names it: libvirt must have one, or would pick another.
    A `passing` one may be gone from the host, once it was applied: what was copied has no origin to keep.
    Of a `recorded` one what was applied counts, and not what libvirt shows: a guest may have written that.
    Of a `remembered` one what was applied counts where libvirt does not show it.
    No two items of a list may have the same in a `unique` field.
    Of a `throughout` list the field's cost is that of all that changes in its items, whatever their fields say.
    A section `by_parts` costs, when it comes or goes, what those of its fields do that say something. One `in_parts` is
    its fields, each with its own change and cost, also where the whole of it comes or goes.
    What is `given` of a section is on in a new object whose manifest says nothing of the section.
    An `open` list leaves items alone that it does not name.
    A `whole` field is all that its elements are there for: without it, what a remainder says of them goes as well.
    """

    path: str = "."
    codec: Scalar | Element | None = None
    same: Callable[[object, object], bool] | None = None
    shared: bool = False
    lasting: bool = False
    passing: bool = False
    recorded: bool = False
    remembered: bool = False
    open: bool = False
    whole: bool = False
    unique: bool = False
    throughout: bool = False
    by_parts: bool = False
    in_parts: bool = False
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keyed:
    """Marks a list whose items are told apart by this field of theirs, not by their order."""

    field: str


@dataclass(frozen=True)
class OneOrMore:
    """Marks a list that may be written as its only item. Its items are told apart by their place."""


class Only(list[Any]):
    """One item where a list may stand: what there is beyond the first is not its concern."""


@dataclass(frozen=True)
class Sensitive:
    """Marks a text that is a secret: no output ever shows it, and the host's record and saved plans have its hash.

    `harmless` tells values that may be shown all the same. A `document` is XML, which has secrets at places. What is
    `asked` for libvirt shows only to who asks for secrets (see `Observed.whole`).
    """

    harmless: Callable[[Any], bool] | None = None
    document: bool = False
    asked: bool = False


class Section(Model):
    """A part of a manifest that maps to an XML element (or some of its children).

    What the default of a field says, other than None and what is empty, holds where nobody says otherwise: see
    `with_defaults`. What is not in the XML is read as None all the same.

    A union of sections is told apart by the text at `xml_by`, which is `xml_variant` for this member.
    `made_with` is what an element needs besides its fields when it is made: values by their paths in it.
    One that is `bare` means something by being there, though it says nothing: `rng: {}`.
    `only` are the elements whose attributes have one of these values (the first one, where they are not there): the
    others of that tag are something else, and are left alone.
    Members of a list's union may be elements of several tags, which keep their order among each other: each has its
    own `xml_tag`, and the list's path that of any of them.
    Items of a list that are `exact` are what their fields say and no more: what is not said is not there either. Items
    without a key that are not `ordered` mean the same in any order.
    """

    xml_by: ClassVar[str] = "@type"
    xml_variant: ClassVar[str | None] = None
    made_with: ClassVar[Mapping[str, str]] = {}
    bare: ClassVar[bool] = False
    only: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    xml_tag: ClassVar[str | None] = None
    exact: ClassVar[bool] = False
    ordered: ClassVar[bool] = True

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy as pydantic does, without a look for what sections do not have: a plan copies some for each object."""
        if deep:
            return super().model_copy(update=update, deep=True)
        told = update or {}
        return self._made(type(self), {**self.__dict__, **told}, {*self.__pydantic_fields_set__, *told})

    def without(self, base: type[S], fields: Set[str]) -> S:
        """What of it is one of `base`, which it extends by these fields."""
        values = {name: value for name, value in self.__dict__.items() if name not in fields}
        return self._made(base, values, self.__pydantic_fields_set__ - fields)

    def _made(self, section: type[S], values: dict[str, Any], said: set[str]) -> S:
        new = object.__new__(section)
        object.__setattr__(new, "__dict__", values)
        object.__setattr__(new, "__pydantic_fields_set__", said)
        object.__setattr__(new, "__pydantic_extra__", None)
        own = self.__pydantic_private__
        object.__setattr__(new, "__pydantic_private__", None if own is None else {**own})
        return new

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        """Whether an element is this, and not something else."""
        tagged = cls.xml_tag in (None, node.tag)
        return tagged and all(node.get(name, values[0]) in values for name, values in cls.only.items())


@dataclass(unsafe_hash=True)
class Binding:
    """What is declared about one field."""

    name: str
    alias: str
    xml: Xml | None
    effect: Cost
    holding: tuple[type[Section] | type[Later], ...]
    repeated: bool
    key: str | None
    one_or_more: bool
    ref: str | None
    local: bool
    sensitive: Sensitive | None
    scalar: Scalar
    default: object

    @cached_property
    def path(self) -> Path:
        assert self.xml is not None
        return parse_path(self.xml.path)

    @cached_property
    def sections(self) -> tuple[type[Section], ...]:
        """The sections that it holds."""
        return tuple(each.section() if issubclass(each, Later) else each for each in self.holding)

    def below(self, test: Callable[[type[Section]], object]) -> bool:
        """Whether a section that it holds is so; one that is not loaded yet may be."""
        return any(issubclass(each, Later) or test(each) for each in self.holding)

    @cached_property
    def holds(self) -> bool:
        """Whether the default says something, which holds where a manifest says nothing."""
        return self.default is not None and self.default not in ([], {})

    @property
    def of_paths(self) -> bool:
        """Whether it is a mapping whose keys are owned each for itself. What is in XML is one value."""
        return self.xml is None and isinstance(self.default, dict)

    @property
    def apart(self) -> bool:
        """Whether the items of a list are told apart, by their key or their place."""
        return self.key is not None or self.one_or_more

    def distinct(self, item: object) -> tuple[str, ...]:
        """The fields of an item of the list of which no other item may have the same."""
        return _distinct(cast("type[Section]", type(item)), self.key)

    @cached_property
    def codec(self) -> Scalar | Element:
        return self.xml.codec if self.xml and self.xml.codec else self.scalar

    def same(self, want: Any, seen: Any) -> bool:
        if self.local and want and seen:
            return bool(basename(want) == basename(seen))
        if isinstance(want, str) and self.xml and not self.path.attribute:
            # an element's text is read without the white space around it, such as a YAML block's last line break
            want = want.strip()
        return bool(want == seen or (self.xml and self.xml.same and self.xml.same(want, seen)))

    def hides(self, *values: object) -> bool:
        """Whether any of these values is not to be shown."""
        mark = self.sensitive
        told = [value for value in values if value is not None]
        return mark is not None and (mark.harmless is None or not all(map(mark.harmless, told)))

    def find_all(self, node: etree._Element) -> list[etree._Element]:
        """The elements of a list."""
        if self._tags:
            found = [each for parent in self.path.parent().find_all(node) for each in parent]
        else:
            found = self.path.find_all(node)
        return [each for each in found if self.picks(each)]

    def find(self, node: etree._Element) -> etree._Element | None:
        """The element of a field that is one thing."""
        found = self.path.find(node)
        return next(iter(self.find_all(node)), None) if found is not None and self._picks else found

    def make(self, node: etree._Element) -> etree._Element:
        """A new element for it, where there is none."""
        return self.path.steps[-1].make(self.path.parent().ensure(node)) if self._picks else self.path.ensure(node)

    def make_item(self, parent: etree._Element, item: object) -> etree._Element:
        """A new element for an item of the list, after all that is there."""
        tag = item.xml_tag if isinstance(item, Section) else None
        return etree.SubElement(parent, tag) if tag else self.path.steps[-1].make(parent)

    def remove(self, node: etree._Element) -> None:
        """Take the element, or the attribute, away; nothing happens when it is not there."""
        if not self._picks:
            self.path.remove(node)
        elif (found := self.find(node)) is not None and (parent := found.getparent()) is not None:
            parent.remove(found)

    def picks(self, node: etree._Element) -> bool:
        """Whether an element of its tag is one of these, and not something else."""
        return not self._picks or any(section.is_one(node) for section in self.sections)

    @property
    def is_looked_for(self) -> bool:
        """Whether the tags on the way to it do not tell which element it is."""
        return bool(self._tags) or not all(step.is_plain for step in self.path.steps)

    @cached_property
    def _picks(self) -> bool:
        """Whether there are elements of this tag that are something else."""
        return bool(self._tags) or any(section.only or "is_one" in vars(section) for section in self.sections)

    @cached_property
    def _tags(self) -> set[str]:
        """Those of its items, where they have several."""
        known = (each for each in self.holding if not issubclass(each, Later))
        return {section.xml_tag for section in known if section.xml_tag}

    def item_key(self, item: object) -> str:
        """What tells an item of the list from the others: what is not in the XML is as the key's default says."""
        assert self.key is not None
        value = getattr(item, self.key)
        return str(self._key_default if value is None else value)

    def alike(self, items: Any, value: object) -> Any:
        """The items, as a list or as the only one, as `value` is."""
        return Only(items) if isinstance(value, Only) else items

    def paired(self, items: Iterable[Any], others: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each item of the list, with the one of another such list that is the same thing, or None."""
        if self.key:
            known = {self.item_key(other): other for other in others}
            yield from ((item, known.get(self.item_key(item))) for item in items)
        else:
            rest = iter(others if self.one_or_more else ())
            yield from ((item, next(rest, None)) for item in items)

    @cached_property
    def _key_default(self) -> object:
        return next((b.default for section in self.sections for b in bindings(section) if b.name == self.key), None)


@cache
def _distinct(section: type[Section], key: str | None) -> tuple[str, ...]:
    return tuple(b.name for b in bindings(section) if b.name == key or (b.xml and b.xml.unique))


def variant(sections: tuple[type[Section], ...], node: etree._Element) -> type[Section]:
    """The member of a union that this element is; the first one when none says so."""
    for section in sections:
        if section.xml_tag == node.tag:
            return section
        if section.xml_variant and parse_path(section.xml_by).text(node) == section.xml_variant:
            return section
    return sections[0]


@cache
def bindings(cls: type[Section]) -> tuple[Binding, ...]:
    found = []
    for name, info in cls.model_fields.items():
        marks = {type(mark): mark for mark in info.metadata}
        key, ref = marks.get(Keyed), marks.get(Ref)
        types = tuple(_flatten(info.annotation))
        found.append(
            Binding(
                name=name,
                alias=info.alias or name,
                xml=marks.get(Xml),
                effect=next((marks[cost] for cost in get_args(Cost) if cost in marks), Effect.RESTART),
                holding=tuple(t for t in types if isinstance(t, type) and issubclass(t, (Section, Later))),
                # a mapping may hold lists, and is not a list
                repeated=list in types and dict not in types,
                key=key.field if key else None,
                one_or_more=OneOrMore in marks,
                ref=ref.kind if ref else None,
                local=LocalFile in marks,
                sensitive=marks.get(Sensitive),
                scalar=YES_NO if bool in types else NUMBER if int in types else TEXT,
                default=info.get_default(call_default_factory=True) if not info.is_required() else None,
            )
        )
    return tuple(found)


def owned(spec: Section, fields: Callable[[type[Section]], Iterable[Binding]] = bindings) -> tuple[Binding, ...]:
    """Those of its `fields` that a section names, in the order of their declaration: few of all that there are."""
    return _named(type(spec), fields, frozenset(spec.model_fields_set))


@lru_cache(2048)
def _named(
    section: type[Section], fields: Callable[[type[Section]], Iterable[Binding]], names: frozenset[str]
) -> tuple[Binding, ...]:
    return tuple(b for b in fields(section) if b.name in names)


def _flatten(annotation: object) -> Iterator[object]:
    """Every type in an annotation: `list[Disk] | None` holds list, Disk and NoneType."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield str
        return
    yield origin if isinstance(origin, type) else annotation
    for arg in get_args(annotation):
        yield from _flatten(arg)
