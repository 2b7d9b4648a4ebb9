"""JSON Schemas of manifests and of the project file, for editors; `explain` reads them too.

One schema for all kinds: `spec` is chosen by `kind`, with if/then rather than oneOf, as editors then complain about the
field that is wrong and not about every kind that a document is not.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from kvmstate.kinds import ALL_KINDS
from kvmstate.manifest import cost
from kvmstate.manifest.document import LIFECYCLE, METADATA
from kvmstate.manifest.project import ADAPTER
from kvmstate.model.effect import Cost
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import API_VERSION
from kvmstate.xmlbind import Section, bindings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What pydantic adds for itself: titles are the names again, and bounds of types with a schema of their own stay Python.
_NOISE = {"title", "gt", "ge", "lt", "le", "multiple_of"}
Schema = dict[str, Any]


class Generator(GenerateJsonSchema):
    """Adds what a Section says of its fields: what a change costs and where the field lives in XML."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        made = super().model_schema(schema)
        if issubclass(schema["cls"], Section):
            for binding in bindings(schema["cls"]):
                field = made["properties"][binding.alias]
                plain = binding.repeated and not binding.one_or_more
                if binding.xml:
                    field["x-kvmstate-xml"] = binding.xml.path
                if _declared(schema["cls"], binding.name) or plain or not binding.sections:
                    field["x-kvmstate-effect"] = cost.label(binding.effect)
                    field["description"] = _sentences(field.get("description"), cost.sentence(binding.effect))
                if binding.one_or_more:
                    listed = {"type": field.pop("type"), "items": field.pop("items")}
                    field["anyOf"] = [listed["items"], listed, {"type": "null"}]
                    field.pop("default", None)
                if binding.name == "xml":
                    field["additionalProperties"] = {"type": ["string", "number", "boolean", "null"]}
        if schema["cls"] is VolumeRef:
            short = {"type": "string", "pattern": "^[^/]+/[^/]+$", "description": "POOL/NAME"}
            return {"anyOf": [made, short], "description": made.pop("description", "")}
        return made


@cache
def manifest_schema() -> Schema:
    """The schema of one document of a manifest; not to be changed."""
    adapters = [(kind.name, kind.adapter) for kind in ALL_KINDS]
    inputs = [*adapters, ("metadata", METADATA), ("lifecycle", LIFECYCLE)]
    schemas, shared = type(METADATA).json_schemas(
        [(name, "validation", adapter) for name, adapter in inputs], schema_generator=Generator
    )
    parts = {name: _tidy(schemas[name, "validation"]) for name, _ in inputs}
    for kind in ALL_KINDS:
        if kind.inherits and (required := parts[kind.name].pop("required", None)):
            # a template may say it
            parts[kind.name] |= {"if": {"required": [kind.inherits]}, "else": {"required": required}}
    return {
        "$schema": DIALECT,
        "title": "kvmstate manifest",
        "description": "What should exist on a KVM host. https://kvmstate.dev",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "The version of this format."},
            "kind": {
                "enum": [kind.name for kind in ALL_KINDS],
                "description": " ".join(f"{kind.name}: {kind.title}" for kind in ALL_KINDS),
            },
            "metadata": {**parts["metadata"], "description": "Its name and labels."},
            "lifecycle": parts["lifecycle"],
            "spec": {"description": "What it should be, by its kind."},
        },
        "allOf": [
            {
                "if": {"required": ["kind"], "properties": {"kind": {"const": kind.name}}},
                "then": {"properties": {"spec": parts[kind.name]}},
            }
            for kind in ALL_KINDS
        ],
        "$defs": _tidy(shared.get("$defs", {})),
    }


def project_schema() -> Schema:
    """The schema of `kvmstate.yaml`."""
    made = _tidy(ADAPTER.json_schema(schema_generator=Generator))
    return {"$schema": DIALECT, **made, "title": "kvmstate project"}


def _declared(model: type[Section], name: str) -> bool:
    """Whether the field itself says what a change costs."""
    return any(isinstance(mark, Cost) for mark in model.model_fields[name].metadata)


def _tidy(node: object, inside: str = "") -> Any:
    """Without pydantic's titles and null defaults; units named in descriptions, where editors show them."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    if inside in ("properties", "$defs"):
        return {key: _tidy(value) for key, value in node.items()}
    kept = {
        key: value if key in ("default", "examples", "enum", "const") else _tidy(value, key)
        for key, value in node.items()
        if key not in _NOISE and not (key == "default" and value is None)
    }
    units = {option["x-kvmstate-unit"] for option in kept.get("anyOf", ()) if "x-kvmstate-unit" in option}
    if units and "x-kvmstate-unit" not in kept:
        kept["x-kvmstate-unit"] = units.pop()
    if "x-kvmstate-unit" in kept and "description" in kept:
        kept["description"] = _sentences(kept["description"], f"Unit: {kept['x-kvmstate-unit']}.")
    return kept


def _sentences(*texts: str | None) -> str:
    return " ".join(text if text.endswith(".") else f"{text}." for text in texts if text)
