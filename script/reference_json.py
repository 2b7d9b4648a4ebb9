"""What docs/reference/json.md says: the fields of JSON output, from the schemas in schemas/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[1] / "schemas"
NAMES = ("plan", "apply", "snapshots", "snapshot-run")
HEAD = "| field | type | what it is |\n|---|---|---|"
# said once for all of them
COMMON = ("format_version", "errored", "diagnostics")
ABOUT = """# JSON

What `--json` prints, field by field, where a schema promises it. In all of them `format_version` says which version of
the format it is: its major number changes when the format breaks. When a command fails, `errored` is true and
`diagnostics` say what is wrong. What every command prints, and the states of resources, is in [output](output.md)."""

Schema = dict[str, Any]


def page() -> str:
    return "\n\n".join([ABOUT, *(part for name in NAMES for part in _section(name)), *_diagnostics()])


def _section(name: str) -> Iterator[str]:
    schema = _read(name)
    yield f"## {schema['title']}"
    yield f"{schema['description']} The schema is `schemas/{name}.schema.json`."
    yield _table(_rows(schema, schema, ""))
    for case in schema.get("allOf", ()):
        kind = case["if"]["properties"]["type"]
        yield f"### type: {kind.get('const') or kind['pattern'].strip('^') + '…'}"
        yield _table(_rows(case["then"], schema, ""))


def _diagnostics() -> Iterator[str]:
    plan = _read("plan")
    yield "## diagnostics"
    yield _table(_rows(plan["$defs"]["diagnostic"], plan, "diagnostics[]."))


def _read(name: str) -> Schema:
    schema: Schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    # a field of several alternatives is told once
    told: dict[str, tuple[str, str]] = {}
    for name, kind, said in rows:
        told[name] = (kind, said) if kind else told.get(name, ("any", said))
    return "\n".join([HEAD, *(f"| `{name}` | {kind} | {said} |" for name, (kind, said) in told.items())])


def _rows(schema: Schema, root: Schema, above: str) -> Iterator[tuple[str, str, str]]:
    for name, field in schema.get("properties", {}).items():
        if not above and name in COMMON:
            continue
        found, top = _followed(field, root)
        items, top = _followed(found["items"], top) if "items" in found else (None, top)
        said = " ".join(str(found.get("description", "")).split()).replace("|", "\\|")
        yield f"{above}{name}", _type(found, items), said
        below = items or found
        yield from _rows(below, top, f"{above}{name}{'[]' if items else ''}.")
    for part in (schema.get("then"), schema.get("else"), *schema.get("oneOf", ())):
        if part:
            yield from _rows(*_followed(part, root), above)
    known = {*schema.get("properties", {}), *COMMON}
    yield from ((f"{above}{name}", "", "") for name in schema.get("required", ()) if name not in known)


def _followed(schema: Schema | bool, root: Schema) -> tuple[Schema, Schema]:
    """What a reference leads to, and the schema that it is in; what is said beside the reference counts."""
    schema = schema if isinstance(schema, dict) else {}
    if "$ref" not in schema:
        return schema, root
    file, _, place = schema["$ref"].partition("#/")
    root = _read(file.removesuffix(".schema.json")) if file else root
    found: Any = root
    for part in place.split("/"):
        found = found[part]
    properties = {**found.get("properties", {}), **schema.get("properties", {})}
    beside = {name: value for name, value in schema.items() if name != "$ref"}
    return _followed({**found, **beside} | ({"properties": properties} if properties else {}), root)


def _type(schema: Schema, items: Schema | None) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if items is not None:
        return f"list of {_type(items, None)}" if items else "list"
    kind = schema.get("type", "object" if "properties" in schema else "any")
    return " or ".join(kind if isinstance(kind, list) else [str(kind)])
