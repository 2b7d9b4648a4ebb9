"""One document to one resource: the envelope, and the spec by its kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from kvmstate.kind import Kind
from kvmstate.kinds import BY_NAME
from kvmstate.manifest import suggest
from kvmstate.manifest.fields import below, fields
from kvmstate.manifest.manifests import Document
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.scalars import describe
from kvmstate.manifest.translate import Report, checked, found, validate
from kvmstate.model.change import field_path
from kvmstate.model.resource import API_VERSION, Lifecycle, Metadata, Origin, Resource, ResourceId
from kvmstate.xmlbind import Keyed, OneOrMore, Section
from kvmstate.xmlbind.sealed import secrets

_ENVELOPE = ("apiVersion", "kind", "metadata", "lifecycle", "spec")
_FIELDS = frozenset(_ENVELOPE)


METADATA: TypeAdapter[Metadata] = TypeAdapter(Metadata)
LIFECYCLE: TypeAdapter[Lifecycle] = TypeAdapter(Lifecycle)
_NO_LIFECYCLE = Lifecycle()


def resource(document: Document, file: str, report: Report) -> Resource | None:
    """The resource that a document declares, or None after reporting all that is wrong with it."""
    return _valid(document, file) or _explained(document.node, file, report)


def may_hold_secrets(data: Any, specs: Iterable[type[BaseModel]]) -> bool:
    """Whether a document, whose spec is of one of these models, says something that is not to be kept in clear."""
    return bool(secrets(data["spec"], tuple(spec for spec in specs if issubclass(spec, Section))))


def _valid(document: Document, file: str) -> Resource | None:
    """The resource, where nothing is wrong; what it takes to find that out is less than what it takes to say it."""
    data = document.data
    if not isinstance(data, dict) or data.get("apiVersion") != API_VERSION or not data.keys() <= _FIELDS:
        return None
    word = data.get("kind")
    kind = BY_NAME.get(word) if isinstance(word, str) else None
    if kind is None or (not kind.on_host and "lifecycle" in data):
        return None
    try:
        metadata = checked(METADATA, data["metadata"])
        lifecycle = checked(LIFECYCLE, data["lifecycle"]) if "lifecycle" in data else _NO_LIFECYCLE
        spec = checked(kind.adapter_of(data["spec"]), data["spec"])
    except (KeyError, ValidationError):
        return None
    if lifecycle.ignore_changes:
        return None
    return Resource(
        ResourceId(kind.word, spec.id_name(metadata.name)), spec, metadata, lifecycle, Origin(file, document.line)
    )


def _explained(root: Node, file: str, report: Report) -> Resource | None:
    if not isinstance(root.value, dict):
        report(f"expected a manifest with {', '.join(_ENVELOPE)}; found {describe(root.value)}", root.line, root.column)
        return None
    for name in root.value:
        if name not in _ENVELOPE:
            report("unknown field", *root.key(name), _misplaced(name, root), name)
    _version(root, report)
    kind = _kind(root, report)
    metadata, lifecycle = _metadata(root, report), _lifecycle(root, report)
    spec = None
    if (body := root.get("spec")) is None:
        report("this field is required", root.line, root.column, "", "spec")
    elif kind:
        spec = validate(kind.adapter, kind.specs, body, ("spec",), report)
    if kind and not kind.on_host and "lifecycle" in root.value and not (spec and spec.has_own()):
        report(f"this {kind.name} has none: nothing on a host is its own", *root.key("lifecycle"), "", "lifecycle")
    if kind and lifecycle:
        check_ignored(root, kind, spec, lifecycle, report)
    if kind is None or metadata is None or lifecycle is None or spec is None:
        return None
    id = ResourceId(kind.word, spec.id_name(metadata.name))
    return Resource(id, spec, metadata, lifecycle, Origin(file, root.line))


def _metadata(root: Node, report: Report) -> Metadata | None:
    if node := root.get("metadata"):
        return validate(METADATA, (Metadata,), node, ("metadata",), report)
    hint = "name the object: metadata: {name: …}"
    report("this field is required", root.line, root.column, hint, "metadata")
    return None


def _lifecycle(root: Node, report: Report) -> Lifecycle | None:
    node = root.get("lifecycle")
    return validate(LIFECYCLE, (Lifecycle,), node, ("lifecycle",), report) if node else _NO_LIFECYCLE


def _version(root: Node, report: Report) -> None:
    node = root.get("apiVersion")
    if node is None:
        report("this field is required", root.line, root.column, f"write apiVersion: {API_VERSION}", "apiVersion")
    elif node.value != API_VERSION:
        report(f"expected {API_VERSION}; found {found(node)}", node.line, node.column, "", "apiVersion")


def _kind(root: Node, report: Report) -> Kind | None:
    node = root.get("kind")
    if node is None:
        report("this field is required", root.line, root.column, f"one of {', '.join(BY_NAME)}", "kind")
        return None
    kind = BY_NAME.get(node.value) if isinstance(node.value, str) else None
    if kind is None:
        said = suggest.hint(node.value, BY_NAME, "kinds")
        report(f"expected a kind; found {found(node)}", node.line, node.column, said, "kind")
    return kind


def _misplaced(name: str, root: Node) -> str:
    """A field that stands a level too high is the commonest slip of indentation."""
    node = root.get("kind")
    kind = BY_NAME.get(node.value) if node and isinstance(node.value, str) else None
    if name == "name":
        return "it belongs in metadata"
    if suggest.nearest(name, _ENVELOPE):
        return suggest.hint(name, _ENVELOPE, "")
    if kind and any(name in fields(spec) for spec in kind.specs):
        return "it belongs in spec: check the indentation"
    if name in fields(Lifecycle):
        return "it belongs in lifecycle: check the indentation"
    return f"known fields: {', '.join(_ENVELOPE)}"


def check_ignored(root: Node, kind: Kind, spec: Any, lifecycle: Lifecycle, report: Report) -> None:
    """The fields whose changes are ignored are fields of the kind."""
    listed = (root.get("lifecycle") or root).get("ignoreChanges") or root
    for index, ignored in enumerate(lifecycle.ignore_changes):
        models: tuple[type[BaseModel], ...] = kind.specs if spec is None else (type(spec),)
        # one that names nothing is not a field either
        steps = field_path(ignored) or [""]
        while steps:
            name = steps.pop(0)
            known = {name: info for model in models for name, info in fields(model).items()}
            if name not in known:
                item = listed.get(index) or listed
                path = f"lifecycle.ignoreChanges[{index}]"
                said = suggest.hint(name, known, "fields")
                report(f"{kind.name} has no field {ignored!r}", item.line, item.column, said, path)
                break
            models = below(models, name)
            marks = {type(mark) for mark in known[name].metadata}
            if steps and (Keyed in marks or (OneOrMore in marks and steps[0].isdecimal())):
                # an item's key, which is free
                steps.pop(0)
