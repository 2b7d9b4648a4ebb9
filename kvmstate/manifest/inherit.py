"""Documents that say only what differs from a template: what it says stands in their place where they say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from kvmstate.errors import Problem
from kvmstate.kind import Kind
from kvmstate.kinds import ALL_KINDS, BY_NAME, BY_WORD
from kvmstate.manifest import suggest
from kvmstate.manifest.document import resource
from kvmstate.manifest.expand import expanded
from kvmstate.manifest.manifests import Document, Loaded
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.reach import Reach
from kvmstate.manifest.sources import Source
from kvmstate.manifest.text import Reader
from kvmstate.manifest.translate import checked, explain
from kvmstate.model.resource import Resource, ResourceId


def inherits(document: Document) -> Kind | None:
    """The kind of a document that names a template."""
    data = document.data
    word, spec = (data.get("kind"), data.get("spec")) if isinstance(data, dict) else (None, None)
    kind = BY_NAME.get(word) if isinstance(word, str) else None
    if kind is None or not kind.inherits or not isinstance(spec, dict):
        return None
    return kind if isinstance(spec.get(kind.inherits), str) else None


def inherited(
    waiting: Sequence[tuple[Document, Source]],
    loaded: Sequence[Loaded],
    project: str,
    problems: list[Problem],
    reach: Reach | None,
) -> Iterator[Loaded]:
    """The resources of documents that name templates, of which `loaded` has those that are declared."""
    known = {item.resource.id: item for item in loaded if BY_WORD[item.resource.id.kind].inherited_by}
    wrong = set()
    for item in known.values():
        reader = Reader(item.source.label, item.source.is_template)
        _check(item, reader)
        problems += reader.problems
        if reader.problems:
            wrong.add(item.resource.id)
    for document, source in waiting:
        reader, kind = Reader(source.label, source.is_template), inherits(document)
        assert kind
        own = document.data["spec"]
        named = own[kind.inherits]
        template = known.get(ResourceId(kind.inherits, named.partition("@")[0]))
        if template is None:
            at = _naming(document.node, kind.inherits)
            names = sorted(id_.name for id_ in known)
            said = suggest.hint(named, names, "templates") if names else "declare one: kind: Template"
            reader.report(f"there is no template {named}", at.line, at.column, said, f"spec.{kind.inherits}")
        else:
            heir = Heir(document, template, kind.inherits)
            heir.data["spec"]["inherited"] = heir.inherited
            if (made := resource(heir, source.label, reader.report)) is not None:
                made = Resource(made.id, made.spec, made.metadata, made.lifecycle, made.origin, own)
                yield from expanded(Loaded(made, heir, source), project, reader.report, reach)
        # what is wrong with a template is told there, and not once more of each that names it
        if template and template.resource.id in wrong and reader.problems:
            at = _naming(document.node, kind.inherits)
            told = {(at.line, at.column), (document.node.get("spec") or document.node).key(kind.inherits)}
            reader.problems = [each for each in reader.problems if (each.line, each.column) not in told]
        problems += reader.problems


def over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `base`: mappings are merged, and lists whose items have names, item by item; all else is replaced, and
    null takes it out."""
    made = {**base, **{key: _over(base.get(key), value) for key, value in own.items()}}
    return {key: value for key, value in made.items() if value is not None}


def _over(base: Any, own: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        return over(base, own)
    if base and own and _named(base) and _named(own):
        mine = {item["name"]: item for item in own}
        kept = [over(item, mine.pop(item["name"], {})) for item in base]
        return [*kept, *mine.values()]
    return own


def _inherited(given: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    """The fields that are given alone; of lists that are merged item by item, the items."""
    for key, value in given.items():
        if key not in own:
            yield key
        elif value and own[key] and _named(value) and _named(own[key]):
            names = {item["name"] for item in own[key]}
            yield from (f"{key}[{item['name']}]" for item in value if item["name"] not in names)


def _named(items: object) -> bool:
    return isinstance(items, list) and all(isinstance(item, Mapping) and item.get("name") for item in items)


class Heir(Document):
    """A document with what it inherits. What is written nowhere in it is at the place where it names the template."""

    def __init__(self, own: Document, template: Loaded, field: str) -> None:
        given: Mapping[str, Any] = {}
        for layer in template.resource.spec.layers(own.data["spec"]):
            given = over(given, layer)
        spec = over(given, own.data["spec"])
        self.own, self.template, self.field = own, template, field
        self.inherited = sorted(_inherited(given, own.data["spec"]))
        super().__init__(own.line, own.column, {**own.data, "spec": spec}, own.source, own.raw)

    def of_template(self, path: tuple[str | int, ...]) -> bool:
        """Whether its template says this field of its spec, and it says nothing of it."""
        said = self.own.data["spec"]
        for step in path:
            try:
                said = said[step]
            except (KeyError, IndexError, TypeError):
                return True
        return False

    @cached_property
    def node(self) -> Node:
        own = self.own.node
        return _placed(self.data, own, _naming(own, self.field))


def _naming(own: Node, field: str) -> Node:
    """Where a document names its template."""
    return (own.get("spec") or own).get(field) or own


def _placed(data: Any, own: Node | None, at: Node) -> Node:
    """What was put together, each part where it is written."""
    if own is not None and own.data() == data:
        return own
    if isinstance(data, dict):
        place = own or at
        children = {
            key: (_placed(value, own.get(key) if own else None, at), *place.key(key)) for key, value in data.items()
        }
        return Node(children, place.line, place.column, [child for child, _, _ in children.values()])
    if isinstance(data, list):
        written = own.value if own and isinstance(own.value, list) else []
        names = {str(name.value): item for item in written if (name := item.get("name"))}
        items = [
            _placed(item, names.get(str(item.get("name"))) if isinstance(item, dict) else None, at) for item in data
        ]
        place = own or at
        return Node(items, place.line, place.column, items)
    return Node(data, at.line, at.column, raw=str(data))


def _check(item: Loaded, reader: Reader) -> None:
    """What a template says for others is what they may say, as far as that can be told without the rest of one."""
    [kind] = [kind for kind in ALL_KINDS if kind.name == BY_WORD[item.resource.id.kind].inherited_by]
    disks, said = item.resource.spec.layers({kind.inherits: item.resource.metadata.name})
    whole = over(disks, said)
    try:
        checked(kind.adapter, whole)
    except ValidationError as errors:
        spec = item.document.node.get("spec") or item.document.node
        own = spec.get("defaults") or spec
        node = _placed(whole, own, own)
        for error in errors.errors(include_url=False):
            if error["type"] == "missing" and len(error["loc"]) == 1:
                continue
            message, line, column, hint, path = explain(error, kind.specs, node, ("spec", "defaults"))
            reader.report(message, line, column, hint, path)
