"""`kvmstate explain`: what a field means, where it lives in libvirt's XML and what a change of it costs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from kvmstate.errors import UsageError

Schema = dict[str, Any]
# kvmstate.yaml is explained as the kinds are
PROJECT_FILE = "kvmstate.yaml"
_SECTIONS = ("metadata", "lifecycle", "spec")


@click.command("explain")
@click.argument("what", metavar="[KIND[.FIELD...]]", required=False)
def command(what: str | None) -> None:
    """Describe kinds and fields: explain VirtualMachine.disks.bus

    Fields are those of spec; metadata and lifecycle are named: explain Network.lifecycle. The project file has fields
    too: explain kvmstate.yaml.environments. Without KIND: what kinds there are.
    """
    from kvmstate.kinds import ALL_KINDS

    if what is None:
        for kind in ALL_KINDS:
            click.echo(f"{kind.name:<16}{kind.title}")
        click.echo(f"{PROJECT_FILE:<16}What the manifests of a project have in common.")
        return
    click.echo("\n".join(describe(find(what))))


@dataclass(frozen=True)
class Found:
    """A field: its name as asked for, its schema, and its place in XML ("" where it is none)."""

    name: str
    schema: Schema
    root: Schema
    xml: str = ""

    def variants(self) -> list[Schema]:
        """The objects that a value (or an item of it) may be; those of one type come before what stands for many."""
        choices = list(options(self.schema, self.root))
        choices += [each for c in choices for each in options(c.get("additionalProperties") or {}, self.root)]
        # what may be a list may also be its only item
        found = [o for number, o in enumerate(choices) if "properties" in o and o not in choices[:number]]
        return sorted(found, key=lambda option: " or " in _tag(option))


def find(what: str) -> Found:
    """Raises UsageError, with what was probably meant."""
    from kvmstate.manifest.schema import manifest_schema

    if what.startswith(PROJECT_FILE):
        from kvmstate.manifest.schema import project_schema

        return _at(Found(PROJECT_FILE, schema := project_schema(), schema), what[len(PROJECT_FILE) :].split(".")[1:])
    name, *fields = what.removesuffix(".").replace("[]", "").split(".")
    kind, root = _kind(name), manifest_schema()
    section = fields.pop(0) if fields and fields[0] in _SECTIONS else "spec"
    spec = next(part["then"] for part in root["allOf"] if part["if"]["properties"]["kind"]["const"] == kind.name)
    schema = (spec if section == "spec" else root)["properties"][section]
    at = Found(kind.name if section == "spec" else f"{kind.name}.{section}", schema, root)
    if section == "spec":
        at = Found(kind.name, schema, root, f"/{kind.element}" if kind.on_host else "")
    return _at(at, fields)


def _at(at: Found, fields: Iterable[str]) -> Found:
    """What these fields lead to, one below the other."""
    from kvmstate.manifest.suggest import hint

    for field in fields:
        known = [key for variant in at.variants() for key in variant["properties"]]
        if field not in known:
            said = hint(field, dict.fromkeys(known), "fields") or f"{at.name} has no fields"
            raise UsageError(f"{at.name} has no field {field!r}", said)
        own = _together([variant["properties"][field] for variant in at.variants() if field in variant["properties"]])
        place = own.get("x-kvmstate-xml")
        xml = f"{at.xml}/{place}".replace("/.", "").rstrip("/") if place and at.xml else ""
        at = Found(f"{at.name}.{field}", own, at.root, xml)
    return at


def _together(schemas: list[Schema]) -> Schema:
    """One field of several variants: what it may be in any of them, and what the first ones say of it."""
    distinct = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    if len(distinct) == 1:
        return distinct[0]
    said = {key: value for schema in reversed(distinct) for key, value in schema.items()}
    said = {key: said[key] for key in said if key == "description" or key.startswith("x-kvmstate")}
    return {**said, "anyOf": distinct}


def options(schema: Schema, root: Schema) -> Iterator[Schema]:
    """What a value may be: references followed, alternatives and items laid flat."""
    if "$ref" in schema:
        yield from options(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
        return
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        for option in alternatives:
            yield from options(option, root)
    elif schema.get("type") == "array":
        yield schema
        yield from options(schema.get("items", {}), root)
    else:
        yield schema


def describe(found: Found) -> Iterator[str]:
    """The lines of an explanation."""
    yield f"{found.name}  <{kind_of(found.schema, found.root)}>"
    variants = found.variants()
    only = variants[0].get("description", "") if len(variants) == 1 else ""
    text = found.schema.get("description") or only
    if text:
        yield ""
        yield from textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="  ")
    facts = dict(_facts(found))
    if facts:
        yield ""
        yield from (f"  {name + ':':<10}{value}" for name, value in facts.items())
    for variant in variants:
        yield ""
        yield "  Fields:" if len(variants) == 1 else f"  Fields of {_tag(variant)}:"
        if len(variants) > 1 and "description" in variant:
            yield from textwrap.wrap(variant["description"], 96, initial_indent="    ", subsequent_indent="    ")
        for name, schema in variant["properties"].items():
            needed = " (required)" if name in variant.get("required", ()) else ""
            yield f"    {name:<16}<{kind_of(schema, found.root)}>{needed}"
            if said := _first_sentence(schema, found.root):
                yield from textwrap.wrap(said, 96, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _first_sentence(schema: Schema, root: Schema) -> str:
    """What a field is for, in one sentence."""
    texts = (option["description"] for option in (schema, *options(schema, root)) if "description" in option)
    first = re.split(r"(?<=[.:;]) (?=[A-Z])", next(texts, ""), maxsplit=1)[0]
    # what a change costs is told where the field itself is described
    return "" if re.match(r"(A|.*: a) change ", first) else first


def kind_of(schema: Schema, root: Schema) -> str:
    """A type in words: `list of object`, `integer or text`, `virtio | sata`."""
    if "$ref" in schema:
        return kind_of(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        given = [option for option in choices if option.get("type") != "null"]
        between = " | " if all("enum" in option or "const" in option for option in given) else " or "
        return between.join(dict.fromkeys(kind_of(option, root) for option in given))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}), root)}"
    if schema.get("type") == "object" and "properties" not in schema:
        return "map"
    return {"string": "text"}.get(str(schema.get("type")), str(schema.get("type", "any")))


def _facts(found: Found) -> Iterator[tuple[str, object]]:
    schema, choices = found.schema, list(options(found.schema, found.root))
    if schema.get("default") not in (None, [], {}):
        yield "Default", _plain(schema["default"])
    for key, word in (("minimum", "At least"), ("exclusiveMinimum", "More than"), ("maximum", "At most")):
        if "x-kvmstate-unit" not in schema and (bounds := [c[key] for c in choices if key in c]):
            yield word, bounds[0]
    if patterns := [c["pattern"] for c in choices if "pattern" in c and "x-kvmstate-unit" not in schema]:
        yield "Pattern", patterns[0].replace("\n", "\\n")
    if examples := [c["examples"][0] for c in choices if "examples" in c]:
        yield "Example", examples[0]
    if effect := schema.get("x-kvmstate-effect"):
        yield "Change", effect
    if found.xml:
        yield "XML", found.xml


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_plain(part)}" for name, part in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tag(variant: Schema) -> str:
    """What tells a variant from the others: the one value of a field, or one of a few."""
    for name, schema in variant["properties"].items():
        if "const" in schema or "enum" in schema:
            return f"{name} {' or '.join(schema.get('enum') or [schema['const']])}"
    return "another kind"


def _kind(name: str) -> Any:
    from kvmstate.kinds import BY_NAME, BY_WORD
    from kvmstate.manifest.suggest import hint

    plain = {known.lower(): kind for known, kind in (*BY_NAME.items(), *BY_WORD.items())}
    if name.lower() not in plain:
        raise UsageError(f"there is no kind {name!r}", hint(name, BY_NAME, "kinds"))
    return plain[name.lower()]
