"""Which resources labels select: KEY=VALUE, KEY!=VALUE, KEY and !KEY, with commas between, as kubectl's --selector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from kvmstate.errors import UsageError
from kvmstate.model.resource import Resource, ResourceId

_TERM = re.compile(r"(?P<not>!?)(?P<key>[^=!,\s]+)\s*(?:(?P<op>!=|==?)\s*(?P<value>[^=!,]*))?")
Labels = Mapping[str, str]


def selected(resources: Iterable[Resource], selector: str) -> set[ResourceId]:
    """Those of them that have these labels. Raises UsageError for another text."""
    terms = [_term(text.strip(), selector) for text in selector.split(",")]
    return {each.id for each in resources if all(holds(each.metadata.labels) for holds in terms)}


def _term(text: str, selector: str) -> Callable[[Labels], bool]:
    found = _TERM.fullmatch(text)
    if found is None or (found["not"] and found["op"]):
        raise UsageError(
            f"--selector {selector!r}: {text!r} is not a condition", "such as tier=web, tier!=web, tier, !tier"
        )
    key, value = found["key"], (found["value"] or "").strip()
    if found["op"] is None:
        return lambda labels: (key in labels) != bool(found["not"])
    return lambda labels: (labels.get(key) == value) != (found["op"] == "!=")
