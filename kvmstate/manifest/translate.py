"""Validation errors for people: what was expected, what was found, where, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from kvmstate.manifest.fields import Model, below, fields, fitting
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.scalars import describe
from kvmstate.manifest.suggest import hint, nearest
from kvmstate.manifest.text import MAX_PROBLEMS
from kvmstate.model.quantity import WRITTEN
from kvmstate.model.uri import without_secrets
from kvmstate.xmlbind import is_secret
from kvmstate.xmlbind.sealed import has_secrets

_YES_NO = {
    **dict.fromkeys(("yes", "y", "on", "1", "enabled"), "true"),
    **dict.fromkeys(("no", "n", "off", "0", "disabled"), "false"),
}
T = TypeVar("T")
Report = Callable[..., None]


def checked(adapter: TypeAdapter[T], data: Any) -> T:
    """The value of plain data. Raises ValidationError."""
    return adapter.validate_python(data, strict=True, by_alias=True, by_name=False, context={WRITTEN})


def validate(
    adapter: TypeAdapter[T], candidates: Iterable[Model], node: Node, at: tuple[str, ...], report: Report
) -> T | None:
    """The validated value, or None after reporting every problem with its place."""
    try:
        return checked(adapter, node.data())
    except ValidationError as errors:
        found: dict[tuple[str, str], Told] = {}
        for error in errors.errors(include_url=False):
            told = Told(error["type"], *explain(error, tuple(candidates), node, at))
            found.setdefault((told.path, told.message), told)
            if len(found) > MAX_PROBLEMS:
                # a hint takes time, and nobody is shown more
                break
        for told in _meant([*found.values()]):
            report(*told[1:])
    return None


class Told(NamedTuple):
    """An error of pydantic's, of this kind, as it is told."""

    kind: str
    message: str
    line: int
    column: int
    hint: str
    path: str


def _meant(every: list[Told]) -> Iterator[Told]:
    """Of a value that may be of several types pydantic tells what is wrong with it as each of them: those that it is
    not of at all are left out, unless it is of none."""
    by_path: dict[str, list[Told]] = {}
    for told in every:
        by_path.setdefault(told.path, []).append(told)
    inside = {told.path[:at] for told in every for at, mark in enumerate(told.path) if mark in ".["}
    for path, group in by_path.items():
        fits = [told for told in group if not told.kind.endswith("_type")]
        if path in inside:
            # it is of the type that has something inside
            yield from fits
        elif len(group) == 1 or not all(told.message.startswith("expected ") for told in group):
            yield from fits or group
        else:
            wanted = " or ".join(told.message.removeprefix("expected ").partition("; found ")[0] for told in group)
            seen = group[0].message.partition("; found ")[2]
            yield group[0]._replace(message=f"expected {wanted}; found {seen}", hint=group[0].hint if fits else "")


def explain(
    error: ErrorDetails, candidates: tuple[Model, ...], root: Node, at: tuple[str, ...]
) -> tuple[str, int, int, str, str]:
    """Message, line, column, hint and path of one error of pydantic's."""
    kind = error["type"]
    steps, node, owner, choices = _locate(error["loc"], root, candidates, kind in ("missing", "extra_forbidden"))
    path = spell((*at, *steps))
    last = str(steps[-1]) if steps else ""
    if kind == "extra_forbidden":
        known = _known(choices)
        return "unknown field", *owner.key(last), hint(last, known, "known fields"), path
    if kind == "missing":
        infos = [fields(model)[last] for model in choices if last in fields(model)]
        about = next((info.description for info in infos if info.description), "")
        return "this field is required", owner.line, owner.column, about or "", path
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _tag(error, node, path)
    models = _models_at(steps, candidates, root)
    if any(is_secret(str(step)) for step in steps) or any(map(has_secrets, models)):
        node = _unsaid(node)
    message, said = _message(error, node, _known(models))
    return message, node.line, node.column, said, path


def _unsaid(node: Node) -> Node:
    """In place of what may be a secret, or was meant to be a part of something that has one."""
    return node if isinstance(node.value, dict | list) else Node(Unsaid(), node.line, node.column)


class Unsaid:
    def __repr__(self) -> str:
        return "(sensitive value)"


def spell(path: Iterable[str | int]) -> str:
    """`spec.disks[0].bus`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


# A longer text is not looked through for secrets, and not shown
_SHOWN = 4096


def found(node: Node) -> str:
    """What stands in the manifest, shortened, and without secrets."""
    if isinstance(node.value, Unsaid):
        return repr(node.value)
    if isinstance(node.value, str):
        if len(node.value) > _SHOWN or is_secret(node.value):
            return describe(node.value)
        value = without_secrets(node.value)
        text = value if len(value) <= 60 else value[:57] + "…"
        return repr(text)
    if isinstance(node.value, bool | int | float):
        return node.raw[:60]
    return describe(node.value)


def _locate(
    loc: tuple[int | str, ...], root: Node, candidates: tuple[Model, ...], named: bool
) -> tuple[tuple[str | int, ...], Node, Node, tuple[Model, ...]]:
    """The path without pydantic's notes on unions; the value there, what encloses it, and the models of that."""
    steps: list[str | int] = []
    node = owner = root
    choices = fitting(candidates, root)
    for index, part in enumerate(loc):
        child = node.get(part)
        if named and index == len(loc) - 1:
            return (*steps, part), child or node, node, choices
        if child is None:
            continue
        steps.append(part)
        owner, node = node, child
        if isinstance(part, str):
            choices = below(choices, part)
        choices = fitting(choices, node)
    return tuple(steps), node, owner, choices


def _models_at(steps: tuple[str | int, ...], candidates: tuple[Model, ...], root: Node) -> tuple[Model, ...]:
    return _locate(steps, root, candidates, False)[3]


def _known(choices: Iterable[Model]) -> list[str]:
    return list(dict.fromkeys(name for model in choices for name in fields(model)))


def _tag(error: ErrorDetails, node: Node, path: str) -> tuple[str, int, int, str, str]:
    context = error.get("ctx", {})
    field = str(context.get("discriminator", "type")).strip("'")
    path = f"{path}.{field}"
    if error["type"] == "union_tag_not_found":
        return "this field is required", node.line, node.column, "it says which of the variants this is", path
    tag, expected = str(context.get("tag", "")), _quoted(str(context.get("expected_tags", "")))
    child = node.get(field) or node
    message = f"expected {_one_of(expected)}; found {tag!r}"
    return message, child.line, child.column, hint(tag, expected, ""), path


def _message(error: ErrorDetails, node: Node, known: list[str]) -> tuple[str, str]:
    """What was expected and found, and a hint."""
    kind, context, value = error["type"], error.get("ctx", {}), node.value
    if kind == "literal_error":
        expected = _quoted(str(context.get("expected", "")))
        return f"expected {_one_of(expected)}; found {found(node)}", hint(node.raw or str(value), expected, "")
    if kind in ("value_error", "assertion_error"):
        text = error["msg"].split(", ", 1)[-1]
        said = getattr(context.get("error"), "hint", "")
        return (f"{text}; found {found(node)}" if text.startswith("expected") else text), said
    expected_type = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "string_type": "text",
        "bool_type": "true or false",
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
    }.get(kind)
    if expected_type:
        return f"expected {expected_type}; found {found(node)}", _conversion(kind, node, known)
    return _bound(kind, context, node) or (error["msg"][:1].lower() + error["msg"][1:] + f"; found {found(node)}"), ""


def _conversion(kind: str, node: Node, known: list[str]) -> str:
    if kind == "string_type" and node.raw and not isinstance(node.value, str):
        return f'put it in quotes: "{node.raw[:60]}"'
    if kind == "bool_type" and isinstance(node.value, str):
        word = _YES_NO.get(node.value.lower()) or nearest(node.value, ["true", "false"])
        return f"write {word}" if word else ""
    if kind == "int_type" and isinstance(node.value, str) and node.value.isdecimal():
        return f"leave out the quotes: {node.value[:60]}"
    if kind == "list_type":
        return "leave it out, or write [] for none" if node.value is None else "begin each item with '- '"
    if kind.startswith("model"):
        return f"fields: {', '.join(known)}" if known else ""
    return ""


def _bound(kind: str, context: dict[str, object], node: Node) -> str:
    words = {
        "greater_than": ("must be more than {}", "gt"),
        "greater_than_equal": ("must be at least {}", "ge"),
        "less_than": ("must be less than {}", "lt"),
        "less_than_equal": ("must be at most {}", "le"),
        "multiple_of": ("must be a multiple of {}", "multiple_of"),
        "string_too_short": ("must have at least {} character(s)", "min_length"),
        "string_too_long": ("must have at most {} characters", "max_length"),
        "too_short": ("must have at least {} item(s)", "min_length"),
        "too_long": ("must have at most {} items", "max_length"),
        "string_pattern_mismatch": ("must match {}", "pattern"),
    }
    if kind not in words:
        return ""
    text, key = words[kind]
    if kind == "string_pattern_mismatch" and str(context.get("pattern")).startswith("^/"):
        return f"expected an absolute path, such as /var/lib/libvirt/images; found {found(node)}"
    if kind == "string_pattern_mismatch" and str(context.get("pattern")).endswith("%$"):
        return f"expected a share such as 50%; found {found(node)}"
    # some patterns have a line break in them
    bound = str(context.get(key)).replace("\n", "\\n")
    return f"{text.format(bound)}; found {found(node)}"


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _one_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
