"""`kvmstate explain`: what a field means, where it lives in libvirt's XML and what a change of it costs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.session import host_options, opened
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format, Output

Schema = dict[str, Any]
# kvmstate.yaml is explained as the kinds are
PROJECT_FILE = "kvmstate.yaml"
FORMAT_VERSION = "1.0"
WIDTH = 80
_SECTIONS = ("metadata", "lifecycle", "spec")


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from kvmstate.kinds import ALL_KINDS

    above, dot, _ = incomplete.rpartition(".")
    try:
        known = find(above).fields() if dot else [*(kind.name for kind in ALL_KINDS), PROJECT_FILE]
    except UsageError:
        return []
    return [found for name in known if (found := f"{above}{dot}{name}").startswith(incomplete)]


@click.command("explain")
@click.argument("what", metavar="[KIND[.FIELD...] | ADDRESS]", required=False, shell_complete=_complete)
@host_options
@click.option("--recursive", "-r", is_flag=True, help="All fields below it, as a tree.")
@click.option("--costs", is_flag=True, help="What a change of each field below it costs.")
@click.option("--resolved", is_flag=True, help="All that a declared resource has, and where each value comes from.")
@format_option
def command(what: str | None, recursive: bool, costs: bool, resolved: bool, fmt: Format, **given: Any) -> int:
    """Describe kinds and fields: explain VirtualMachine.disks.bus

    Fields are those of spec; metadata and lifecycle are named: explain Network.lifecycle. The project file has fields
    too: explain kvmstate.yaml.environments. Without KIND: what kinds there are.

    With --resolved: what a resource of the manifests has in the end, and what it declares itself, such as the volumes
    of its disks: explain --resolved domain/web-1, or 'domain/*'. The host is asked for what was applied, and for what
    libvirt has added. PATH... are the manifests.
    """
    from kvmstate.kinds import ALL_KINDS

    if resolved:
        return _resolved(what, fmt, given)
    if wrong := next((name for name, value in given.items() if value), None):
        option = "PATH" if wrong == "paths" else f"--{wrong.replace('_', '-')}"
        raise UsageError(f"{option} is of manifests, which explain reads with --resolved")
    if costs:
        from kvmstate.manifest.cost import table

        if what is None:
            raise UsageError("--costs is of one kind", "such as `kvmstate explain VirtualMachine --costs`")
        name, *fields = what.split(".")
        rows = [(where, cost) for where, cost in table(_kind(name)) if _below(where, ".".join(fields))]
        if not rows:
            find(what)
        width = max((len(where) for where, _ in rows), default=0)
        lines = [f"{where:<{width}}  {cost}" for where, cost in rows]
        show(fmt, Output(lambda: {"format_version": FORMAT_VERSION, "costs": dict(rows)}, lambda: "\n".join(lines)))
        return 0
    if what is None:
        kinds = {kind.name: kind.title for kind in ALL_KINDS}
        kinds[PROJECT_FILE] = "The project file: what all manifests of a project have in common."
        lines = [f"{name:<16}{title}" for name, title in kinds.items()]
        show(fmt, Output(lambda: {"format_version": FORMAT_VERSION, "kinds": kinds}, lambda: "\n".join(lines)))
        return 0
    found = find(what)
    lines = [*heading(found), "", *tree(found, "  ")] if recursive else [*describe(found)]
    show(fmt, Output(lambda: data(found, recursive), lambda: "\n".join(lines)))
    return 0


def _resolved(what: str | None, fmt: Format, given: dict[str, Any]) -> int:
    from kvmstate.manifest import suggest
    from kvmstate.plan.select import matching
    from kvmstate.views import resolved

    with opened(**given, claimed=False) as at:
        assert at.manifests
        manifests = at.manifests
        declared = {r.id: r.origin.by or str(r.id) for r in at.session.wanted(at.options)}
        if not (meant := matching(declared, what or "")):
            said = suggest.hint(what or "", [*map(str, declared)], "addresses")
            raise UsageError(f"no manifest declares {what or 'it'}", said or "such as domain/web-1")
        only = meant | {id_ for id_, by in declared.items() if by in {*map(str, meant)}}
        plan = at.session.plan(replace(at.options, lenient=True), only)
    # each before what it declares itself
    found = (change for change in plan.changes if change.desired and change.id in only)
    changes = sorted(found, key=lambda change: (declared[change.id], declared[change.id] != str(change.id)))
    show(fmt, resolved.output([resolved.of(manifests, change, plan.project) for change in changes]))
    return 0


def _below(where: str, field: str) -> bool:
    """Whether a field is this one, or in it."""
    plain = where.replace("[]", "")
    return not field or plain == field or plain.startswith(f"{field}.")


@dataclass(frozen=True)
class Found:
    """A field: its name as asked for, its schema, and its place in XML ("" where it is none)."""

    name: str
    schema: Schema
    root: Schema
    xml: str = ""

    def fields(self) -> list[str]:
        """The names of the fields below it, each once."""
        return list(dict.fromkeys(name for variant in self.variants() for name in variant["properties"]))

    def variants(self) -> list[Schema]:
        """The objects that a value (or an item of it) may be; those of one type come before what stands for many."""
        choices = list(options(self.schema, self.root))
        open_ = (c.get("additionalProperties") for c in choices)
        choices += [each for held in [*open_] if isinstance(held, dict) for each in options(held, self.root)]
        # what may be a list may also be its only item
        found = [o for number, o in enumerate(choices) if "properties" in o and o not in choices[:number]]
        return sorted(found, key=lambda option: " or " in _tag(option))


@cache
def _schema(project: bool) -> Schema:
    from kvmstate.manifest.schema import manifest_schema, project_schema

    return project_schema() if project else manifest_schema()


def find(what: str) -> Found:
    """Find the kind or field of this name. Raises UsageError, with what was probably meant."""
    if what.startswith(PROJECT_FILE):
        return _at(Found(PROJECT_FILE, schema := _schema(True), schema), what[len(PROJECT_FILE) :].split(".")[1:])
    name, *fields = what.removesuffix(".").replace("[]", "").split(".")
    kind, root = _kind(name), _schema(False)
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
        known = at.fields()
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


def heading(found: Found) -> Iterator[str]:
    """The lines about the field itself."""
    yield from _wrapped(f"{found.name}  <{kind_of(found.schema, found.root)}>", 0, 4)
    if said := meaning(found):
        yield ""
        yield from _wrapped(said, 2)


def meaning(found: Found) -> str:
    """What a field is for. What its change costs is left out, where a line of its own says it."""
    from kvmstate.manifest import cost

    variants = found.variants()
    only = variants[0].get("description", "") if len(variants) == 1 else ""
    text = str(found.schema.get("description") or only)
    return cost.without(text) if "x-kvmstate-effect" in found.schema else text


def describe(found: Found) -> Iterator[str]:
    """The lines of an explanation."""
    yield from heading(found)
    facts = facts_of(found)
    if facts:
        yield ""
        for name, value in facts.items():
            yield from _wrapped(f"{name + ':':<10}{value}", 2, 12)
    variants = found.variants()
    for variant in variants:
        yield ""
        yield from _wrapped("Fields:" if len(variants) == 1 else f"{of_variant(variant)}:", 2, 4)
        if len(variants) > 1 and "description" in variant:
            yield from _wrapped(variant["description"], 4)
        for name, schema in variant["properties"].items():
            needed = " (required)" if name in variant.get("else", variant).get("required", ()) else ""
            yield from _wrapped(f"{name:<16}<{kind_of(schema, found.root)}>{needed}", 4, 20)
            if said := _first_sentence(schema, found.root):
                yield from _wrapped(said, 8)
    if text := example(found.name):
        yield ""
        yield "  Example:"
        yield from (f"    {line}".rstrip() for line in text.splitlines())


def tree(found: Found, indent: str = "") -> Iterator[str]:
    """All fields below this one, each with its type; what lies inside itself is shown once."""
    yield from _tree(found, indent, ())


def _tree(found: Found, indent: str, inside: tuple[int, ...]) -> Iterator[str]:
    known = {id(variant) for variant in found.variants()}
    if known & set(inside):
        return
    for name in found.fields():
        below = _at(found, [name])
        yield from _wrapped(f"{name:<16}<{kind_of(below.schema, below.root)}>", len(indent), len(indent) + 16)
        yield from _tree(below, indent + "  ", (*inside, *known))


def data(found: Found, recursive: bool = False) -> dict[str, object]:
    """An explanation for programs."""
    return {"format_version": FORMAT_VERSION, **_data(found, recursive, ())}


def _data(found: Found, recursive: bool, inside: tuple[int, ...]) -> dict[str, object]:
    known = {id(variant) for variant in found.variants()}
    facts = {name.lower(): value for name, value in facts_of(found).items()}
    told = {"name": found.name, "type": kind_of(found.schema, found.root), "description": meaning(found), **facts}
    if known & set(inside):
        return told
    below = [_at(found, [name]) for name in found.fields()]
    deeper = (*inside, *known)
    return told | {
        "fields": [
            _data(each, True, deeper)
            if recursive
            else {"name": each.name, "type": kind_of(each.schema, each.root), "description": meaning(each)}
            for each in below
        ]
    }


def example(name: str) -> str:
    """A manifest of a kind, or a kvmstate.yaml; nothing of a field."""
    from kvmstate.kinds import BY_NAME

    if name == PROJECT_FILE:
        return (Path(__file__).with_name("templates") / "example-project.yaml").read_text(encoding="utf-8")
    file = BY_NAME[name].example if name in BY_NAME else None
    return file.read_text(encoding="utf-8") if file and file.exists() else ""


def _wrapped(text: str, indent: int, hanging: int | None = None) -> list[str]:
    below = " " * (indent if hanging is None else hanging)
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=below, break_on_hyphens=False)


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


def facts_of(found: Found) -> dict[str, object]:
    """Default, bounds, cost of a change, place in XML, by what they are called."""
    return dict(_facts(found))


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
        # what is not said is not shown
        said = {name: part for name, part in value.items() if part not in (None, [])}
        return "{" + ", ".join(f"{name}: {_plain(part)}" for name, part in said.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def of_variant(variant: Schema) -> str:
    """`Fields of type dir`; of what stands for all others `Fields of all other types`."""
    return f"Fields of {_tag(variant) or 'all other types'}"


def _tag(variant: Schema) -> str:
    """What tells a variant from the others: the one value of a field, or one of a few."""
    for name, schema in variant["properties"].items():
        if "const" in schema or "enum" in schema:
            return f"{name} {' or '.join(schema.get('enum') or [schema['const']])}"
    return ""


def _kind(name: str) -> Any:
    from kvmstate.kinds import BY_NAME, BY_WORD
    from kvmstate.manifest.suggest import hint

    plain = {known.lower(): kind for known, kind in (*BY_NAME.items(), *BY_WORD.items())}
    if name.lower() not in plain:
        raise UsageError(f"there is no kind {name!r}", hint(name, BY_NAME, "kinds"))
    return plain[name.lower()]
