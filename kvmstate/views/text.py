"""Values as text on a terminal."""

from __future__ import annotations

import re
from typing import Any

from kvmstate.model.reference import VolumeRef
from kvmstate.xmlbind import Section, bindings

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Control and direction characters spelled out: what a name says must not drive a terminal."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def shown(value: Any, key: str | None = None) -> str:
    """A field's value: sizes with their unit, sections as `field value, field value`.

    `key` tells this item of a list apart, and was said already.
    """
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, VolumeRef):
        return safe(str(value))
    if isinstance(value, Section):
        parts = ((b.alias, getattr(value, b.name)) for b in bindings(type(value)) if b.name in value.model_fields_set)
        said = [(name, v) for name, v in parts if v is not None and v != []]
        if key is not None and any(name == "volume" for name, _ in said):
            said = [(name, v) for name, v in said if name != "file"]
        return ", ".join(_named(name, v) for name, v in said if key is None or str(v) != key)
    if isinstance(value, list):
        return "[" + "; ".join(shown(item) for item in value) + "]"
    return safe(str(value)).replace("\n", "\\n")


def _named(name: str, value: Any) -> str:
    return f"{name} ({shown(value)})" if isinstance(value, Section) else f"{name} {shown(value)}"
