"""Values as text for people, without the secrets among them."""

from __future__ import annotations

import difflib

from kvmstate.model.printable import one_line
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Model
from kvmstate.model.uri import without_secrets
from kvmstate.xmlbind import Section, is_secret, owned

SENSITIVE = "(sensitive value)"
# Longer values are cut, and their changes shown as a difference.
LONG = 160
MOST_LINES = 30
_AROUND = 24


def shown(value: object, key: str | None = None) -> str:
    """A field's value: sizes with their unit, sections as `field value, field value`.

    `key` tells this item of a list apart, and was said already.
    """
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, VolumeRef):
        return one_line(str(value))
    if isinstance(value, Model) and not isinstance(value, Section):
        told = value.model_dump(exclude_unset=True)
        return ", ".join(_named(name, each, is_secret(name)) for name, each in told.items()) or "{}"
    if isinstance(value, Section):
        said = [(b.alias, v, b.hides(v)) for b in owned(value) if (v := getattr(value, b.name)) is not None and v != []]
        if key is not None and any(name == "volume" for name, _, _ in said):
            said = [part for part in said if part[0] != "file"]
        news = [part for part in said if key is None or str(part[1]) != key]
        # of what has nothing but its name there is that to say
        return ", ".join(_named(*part) for part in news or said) or "{}"
    if isinstance(value, list):
        return "[" + "; ".join(shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + "; ".join(_named(name, item, is_secret(name)) for name, item in value.items()) + "}"
    return _cut(one_line(public(value))) or '""'


def _named(name: str, value: object, sensitive: bool) -> str:
    text = SENSITIVE if sensitive else f"({shown(value)})" if isinstance(value, Section) else shown(value)
    return f"{one_line(name)} {text}"


def public(value: object) -> str:
    """Text without what URLs in it hold of secrets."""
    text = str(value)
    return without_secrets(text) if "://" in text else text


def as_lines(value: object) -> str | None:
    """A text; or the items of a list, a line each."""
    if isinstance(value, list) and any(isinstance(item, Section) for item in value):
        return "\n".join(map(shown, value))
    return value if isinstance(value, str) else None


def is_long(value: str | None) -> bool:
    return value is not None and (len(value) > LONG or "\n" in value)


def difference(old: str | None, new: str | None) -> list[str]:
    """The lines that go (`-`) and come (`+`), with a line around them; a long line from where it differs."""
    before, after = public(old or "").splitlines(), public(new or "").splitlines()
    if len(before) == len(after) == 1:
        start = max(0, _common(before[0], after[0]) - _AROUND)
        lines = [f"- {_cut(before[0], start)}", f"+ {_cut(after[0], start)}"]
    else:
        found = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
        lines = ["..." if line.startswith("@@") else f"{line[0]} {_cut(line[1:])}" for line in found]
        lines = lines[1:] if lines[:1] == ["..."] else lines
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"... {len(lines) - MOST_LINES} more lines"]
    return [one_line(line) for line in lines]


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _cut(text: str, start: int = 0) -> str:
    rest = text[start:]
    head = "..." if start else ""
    return head + (rest if len(rest) <= LONG else f"{rest[:LONG]}... ({len(text)} characters)")
