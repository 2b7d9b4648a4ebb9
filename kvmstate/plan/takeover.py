"""What exists, as a manifest would say it: faithful, so that a rebuilt object is the same, and as readable as can be.

The spec has what its fields can say, the remainder all else. That nothing is lost does not hang on the rules here: what
creation would write is compared with what is there, and where it differs, more is left in the remainder.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from lxml import etree
from pydantic import ValidationError

from kvmstate.errors import HostError
from kvmstate.host import Host
from kvmstate.kind import Kind, Spec
from kvmstate.kind.compose import written
from kvmstate.kind.stamps import unstamp
from kvmstate.kinds import ON_HOST
from kvmstate.model.change import Action, Change
from kvmstate.model.reference import Lookup, VolumeRef, VolumeSource
from kvmstate.model.resource import FOUND, Metadata, Observed, Resource, ResourceId
from kvmstate.xmlbind import Binding, Section, bindings, document, meaning, owning, patch, strip, to_text
from kvmstate.xmlbind.path import parse_path

Path = tuple[str | int, ...]
T = TypeVar("T")
# A path, a UUID, a MAC address, and what is called after one
_OWN = re.compile(
    r"/.*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{2}(:[0-9a-f]{2}){5}|nic-[0-9a-f]{12}", re.IGNORECASE
)


def everything(host: Host) -> list[ResourceId]:
    """What `kvmstate import --all` takes."""
    kinds = (kind for kind in ON_HOST if not kind.of_host)
    return [ResourceId(kind.word, name) for kind in kinds for name in sorted(kind.ops.names(host) - kind.says.given)]


class Takeovers:
    """Of many objects of one host, at one moment. Of those that differ in their names only, and what is theirs alone
    (UUIDs, MAC addresses, paths), the first shows what the remainder of each is; that it is faithful is seen of all."""

    def __init__(self, host: Host, project: str) -> None:
        self._host, self._project = host, project
        self._lookup = _Remembered(host.lookup)
        self._remainders: dict[object, str] = {}

    def resource(self, kind: Kind, observed: Observed) -> Resource:
        """The resource that `observed` is. Raises HostError when no manifest can say it, or none is to."""
        if observed.id.name in kind.says.given:
            raise HostError("it comes with libvirt, and is nobody's", "refer to it by its name: it needs no manifest")
        try:
            metadata = Metadata(name=kind.local_name(observed.id))
        except ValidationError as error:
            raise HostError(f"no manifest can name it: {error.errors()[0]['msg']}") from None
        taken = _Takeover(kind, observed, self._host, self._project, metadata, self._lookup)
        return taken.resource(self._remainders)


class _Takeover:
    def __init__(
        self, kind: Kind, observed: Observed, host: Host, project: str, metadata: Metadata, lookup: Lookup
    ) -> None:
        self.kind, self.observed, self.project, self.metadata, self.lookup = kind, observed, project, metadata, lookup
        self.host = host
        seen, self.node = kind.ops.portable(observed, host)
        self.seen = _once(seen)
        self.named = parse_path(self.seen.name_path)
        self.named.remove(self.node)
        unstamp(self.node)

    @cached_property
    def whole(self) -> str:
        return to_text(self.node)

    @cached_property
    def _wanted(self) -> object:
        return meaning(self.node)

    def resource(self, remainders: dict[object, str]) -> Resource:
        """`remainders` are those of such objects before, by their `Likeness`."""
        whole = self._valid(_values(self.seen))
        if alone := self._alone(self._valid(_undefaulted(whole))):
            return self._resource(alone)
        for beside in (True, False):
            spec = self._valid(_undefaulted(whole, beside))
            alike = Likeness(self.kind.word, self.observed.id.name, self.node, _values(spec))
            if (known := remainders.get(alike.key)) is None:
                known = remainders[alike.key] = alike.opened(self._shortest(spec))
            found = self._resource(self._valid({**_values(spec), "remainder": alike.filled(known)}))
            if self._faithful(found.spec, found.spec.remainder):
                return found
        return self._careful()

    def _shortest(self, spec: Spec) -> str:
        """The remainder beside this spec, if that says everything as it is."""
        try:
            shortest = to_text(strip(self.node, self._complete(spec, self.whole), self.lookup))
        except ValueError:
            # an item that is not as its element says
            return self.whole
        return _with_note(spec, self._brief(shortest))

    def _brief(self, remainder: str) -> str:
        """Without what every object of its kind has."""
        if (obvious := self.kind.ops.obvious) is None:
            return remainder
        node = document(remainder)
        obvious(node)
        return to_text(node)

    def _careful(self) -> Resource:
        """Where some field would write something else than what is there: step by step."""
        spec = self._valid(_values(self.seen))
        if not self._faithful(spec, self.whole):
            spec = self._valid(_values(self._truthful(spec)))
            if not self._faithful(spec, self.whole):
                raise HostError("its XML cannot be written as it is")
        spec = self._without_defaults(spec)
        shortest = self._brief(to_text(strip(self.node, self._complete(spec, self.whole), self.lookup)))
        remainder = shortest if self._faithful(spec, shortest) else self.whole
        return self._resource(self._valid({**_values(spec), "remainder": _with_note(spec, remainder)}))

    def _resource(self, spec: Spec) -> Resource:
        return Resource(self.observed.id, spec, self.metadata, origin=FOUND)

    def _complete(self, spec: Spec, remainder: str) -> Spec:
        spec = spec.model_copy(update={"remainder": remainder})
        completed: Spec = self.kind.complete(self._resource(spec), None, self.project)
        return completed

    def _faithful(self, spec: Spec, remainder: str) -> bool:
        """Whether an object made from the two would be as what is there."""
        completed = self._complete(spec, remainder)
        uuid = self.observed.uuid if self.node.find("uuid") is not None else ""
        begun = self.kind.ops.begun
        node = document(remainder) if begun is None else begun(self.host, completed)
        # the note is for who reads the manifest
        etree.strip_tags(node, etree.ProcessingInstruction)
        return self._comes_back(completed, node, uuid)

    def _alone(self, spec: Spec) -> Spec | None:
        """The spec without any remainder, where all is said so."""
        if (begun := self.kind.ops.begun) is None:
            return None
        try:
            sole: Spec = self.kind.read(_values(spec))
        except ValidationError:
            return None
        if any(sole.faults()):
            # of what has a remainder more is taken as it is
            return None
        completed: Spec = self.kind.complete(self._resource(sole), None, self.project)
        return sole if self._comes_back(completed, begun(self.host, completed), self.observed.uuid) else None

    def _comes_back(self, completed: Spec, node: etree._Element, uuid: str) -> bool:
        """Whether an object made of a spec that is written into `node` would be as what is there."""
        made = written(Change(self.observed.id, Action.CREATE, spec=completed, uuid=uuid), node, self.lookup)
        self.named.remove(made)
        return bool(meaning(made) == self._wanted)

    def _truthful(self, spec: Spec) -> Spec:
        """Without the fields that would be written otherwise than they are."""
        completed = self._complete(spec, self.whole)
        kept = [
            name
            for name in spec.model_fields_set
            if meaning(patch(document(self.whole), owning(completed, name), self.lookup)) == self._wanted
        ]
        required = [name for name, info in type(spec).model_fields.items() if info.is_required()]
        return owning(spec, *kept, *required)

    def _without_defaults(self, spec: Spec) -> Spec:
        """Each field that says what holds without it goes, in every section."""
        slim = self._valid(_undefaulted(spec))
        return slim if self._faithful(slim, self.whole) else spec

    def _valid(self, values: dict[str, object]) -> Spec:
        """The spec of all values that a manifest may have. Raises HostError when what is required is not among them."""
        while True:
            try:
                # until it has one of its own, the whole is the remainder: kinds may require one
                spec: Spec = self.kind.read({"remainder": self.whole, **values})
            except ValidationError as error:
                values = self._smaller(values, error)
            else:
                return spec

    def _smaller(self, values: dict[str, object], error: ValidationError) -> dict[str, object]:
        """Without a field that is wrong; of several that do not go together, without one of them."""
        first = error.errors(include_url=False)[0]
        at = _locate(values, first["loc"])
        for path in [*_optional(values, at), *(at[:length] for length in range(len(at), 0, -1))]:
            smaller = _dropped(values, path)
            if smaller and self._better(smaller, first):
                return dict(smaller)
        raise HostError(f"no manifest can say it: {'.'.join(map(str, at)) or 'spec'}: {first['msg']}")

    def _better(self, values: dict[str, object], first: Any) -> bool:
        try:
            self.kind.read({"remainder": self.whole, **values})
        except ValidationError as error:
            now = error.errors(include_url=False)
            gone = all((e["loc"], e["msg"]) != (first["loc"], first["msg"]) for e in now)
            return gone and all(e["type"] != "missing" for e in now)
        return True


def _once(spec: Any) -> Any:
    """Without lists of which two items have what only one can have: no manifest may say so."""
    twice = {*_twice(spec)}
    return owning(spec, *(spec.model_fields_set - twice)) if twice else spec


def _twice(spec: Section) -> Iterator[str]:
    cls: type[Section] = type(spec)
    for b in bindings(cls):
        if not (b.repeated and b.holding and b.name in spec.model_fields_set):
            continue
        items = getattr(spec, b.name) or ()
        told = Counter(
            (name, str(value))
            for item in items
            for name in b.distinct(item)
            if (value := getattr(item, name)) is not None
        )
        if any(count > 1 for count in told.values()):
            yield b.name


def _with_note(spec: Spec, remainder: str) -> str:
    """The remainder, with a note of the fields that it has parts of."""
    node = document(remainder)
    parts = [*dict.fromkeys(_parts(spec, node))]
    if not parts:
        return remainder
    node.insert(0, etree.ProcessingInstruction("kvmstate", f"parts of {', '.join(parts)}"))
    return to_text(node)


def _parts(section: Section, node: etree._Element, at: str = "") -> Iterator[str]:
    cls: type[Section] = type(section)
    for b in bindings(cls):
        value = getattr(section, b.name)
        if b.xml is None or b.name not in section.model_fields_set:
            continue
        if b.xml.whole and _has_part(section, b, node):
            yield f"{at}{b.alias}"
        for item in value if b.repeated and b.holding else [value] if isinstance(value, Section) else []:
            for below in _places(b, node):
                yield from (part for part in _parts(item, below, f"{at}{b.alias}."))


def _places(b: Binding, node: etree._Element) -> list[etree._Element]:
    return b.find_all(node) if b.repeated else [found] if (found := b.find(node)) is not None else []


def _has_part(section: Section, b: Binding, node: etree._Element) -> bool:
    without = patch(copy.deepcopy(node), owning(section, **{b.name: b.default}))
    return bool(meaning(without) != meaning(node))


class Likeness:
    """An object's document and the values of its fields, without what is its own alone: its name, its paths, UUIDs and
    MAC addresses, where they stand as the whole of a text, an attribute or a value. Where two have the same `key`, what
    is `opened` of one can be `filled` for the other."""

    def __init__(self, kind: str, name: str, node: etree._Element, values: object) -> None:
        # by what is its own alone: its number, in the order of the document
        self._own = {name: 0}
        for text in (*_texts(node), *_said(values)):
            if _OWN.fullmatch(text):
                self._own.setdefault(text, len(self._own))
        marked = copy.deepcopy(node)
        _replace(marked, lambda text: self._mark(text, text))
        self.key = kind, etree.tostring(marked), repr(self._marked(values))

    def _mark(self, text: str, other: T) -> str | T:
        number = self._own.get(text)
        return other if number is None else f"\ue000{number}\ue000"

    def _marked(self, value: object) -> object:
        if (volume := _volume(value)) and volume in self._own:
            return self._mark(volume, value)
        if isinstance(value, dict):
            return {name: self._marked(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._marked(each) for each in value]
        return self._mark(value, value) if isinstance(value, str) else value

    def opened(self, text: str) -> str:
        """XML of this object, to be `filled` by others of its key."""
        node = document(text)
        _replace(node, lambda text: self._mark(text, text))
        return to_text(node)

    def filled(self, text: str) -> str:
        own = {f"\ue000{number}\ue000": value for value, number in self._own.items()}
        node = document(text)
        _replace(node, lambda text: own.get(text, text))
        return to_text(node)


def _texts(node: etree._Element) -> Iterator[str]:
    for each in node.iter():
        if isinstance(each.tag, str):
            yield from map(str, each.attrib.values())
            if each.text:
                yield each.text


def _replace(node: etree._Element, replaced: Callable[[str], str]) -> None:
    """Every text and attribute by another one."""
    for each in node.iter():
        if isinstance(each.tag, str):
            for name, value in each.attrib.items():
                if (new := replaced(str(value))) != value:
                    each.set(name, new)
            if each.text and (new := replaced(each.text)) != each.text:
                each.text = new


def _said(value: object) -> Iterator[str]:
    """All texts among values."""
    if volume := _volume(value):
        yield volume
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _said(each)
    elif isinstance(value, str):
        yield value


def _volume(value: object) -> str:
    """Of a reference to a volume, as a path, which it stands for."""
    alike = isinstance(value, dict) and value.keys() == VolumeRef.model_fields.keys()
    return f"/{VolumeRef.model_construct(**value)}" if isinstance(value, dict) and alike else ""


class _Remembered:
    """Asks the host for each volume once."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._known: dict[VolumeRef, VolumeSource] = {}

    def volume_source(self, ref: VolumeRef) -> VolumeSource:
        if ref not in self._known:
            self._known[ref] = self._lookup.volume_source(ref)
        return self._known[ref]

    def volume_at(self, path: str) -> VolumeRef | None:
        return self._lookup.volume_at(path)

    def original(self, path: str, format_: str = "") -> tuple[str, str]:
        return self._lookup.original(path, format_)

    def path_of(self, pool: str, name: str) -> tuple[str, str] | None:
        return self._lookup.path_of(pool, name)

    def secret_uuid(self, name: str) -> str:
        return self._lookup.secret_uuid(name)

    def secret_at(self, uuid: str) -> str:
        return self._lookup.secret_at(uuid)


def _values(spec: Any) -> dict[str, object]:
    values: dict[str, object] = spec.model_dump(exclude_unset=True, exclude={"remainder"}, warnings=False)
    return values


def _undefaulted(spec: Section, beside: bool = False) -> dict[str, object]:
    """The values that are not what the fields' own defaults are. What stands `beside` a remainder says lasting ones:
    else the remainder would."""
    values = _values(spec)
    section: type[Section] = type(spec)
    for b in bindings(section):
        value = getattr(spec, b.name)
        if b.alias not in values:
            continue
        if section.model_fields[b.name].is_required() or (beside and b.xml and b.xml.lasting):
            pass
        elif value == b.default or (value is False and b.default is None and b.xml is None):
            del values[b.alias]
            continue
        if b.holding and b.repeated:
            values[b.alias] = [_undefaulted(item, beside) for item in value]
        elif b.holding:
            values[b.alias] = _undefaulted(value, beside)
    return values


def _locate(values: object, loc: Path) -> Path:
    """The part of an error's place that is a path into the values; a union's members have steps of their own."""
    path: list[str | int] = []
    for step in loc:
        if (isinstance(values, dict) and step in values) or (isinstance(values, list) and isinstance(step, int)):
            values = values[step]  # type: ignore[index]
            path.append(step)
    return tuple(path)


def _optional(values: Any, at: Path) -> list[Path]:
    """What is below a place, the deepest first."""
    for step in at:
        values = values[step]
    found: list[Path] = []

    def walk(value: Any, path: Path) -> None:
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            walk(child, (*path, key))
            if isinstance(key, str):
                found.append((*path, key))

    walk(values, at)
    return found


def _dropped(values: Any, path: Path) -> Any:
    """A copy without the field at this path; of a list's item, without the list."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    step, rest = path[0], path[1:]
    if isinstance(values, list):
        return [_dropped(child, rest) if i == step else child for i, child in enumerate(values)]
    if not rest:
        return {key: value for key, value in values.items() if key != step}
    return {key: _dropped(value, rest) if key == step else value for key, value in values.items()}
