"""The escape hatch: XML paths that a manifest sets itself, for what no field models yet.

`xml: {"./features/kvm/hidden/@state": "on"}`, as virt-xml's --edit users know it; null removes.
"""

from __future__ import annotations

import re
from typing import Annotated

from lxml import etree
from pydantic import AfterValidator, BeforeValidator, Field

from kvmstate.model.effect import Effect
from kvmstate.xmlbind.path import parse_path

# https://libvirt.org/formatdomain.html#graphical-framebuffers: the passwords that domain XML itself holds; and what
# holds whatever somebody puts there: arguments and environment of QEMU, a kernel's command line, cookies, URLs' queries
_SECRET = re.compile(
    r"passw(or)?d[^/]*$|secret[^/]*$|token[^/]*$|cookie|commandline|cmdline[^/]*$|initarg|initenv|@query$|sysinfo|oemStrings",
    re.IGNORECASE,
)


_SECRET_IN_XML = re.compile(
    r"passw(or)?d|<secret\b|token|cookie|commandline|cmdline|initarg|initenv|\bquery=|oemStrings", re.IGNORECASE
)


# One of these is in all that has one: a look for words takes a hundredth of the time that the pattern takes
_WORDS = ("passw", "<secret", "token", "cookie", "commandline", "cmdline", "initarg", "initenv", "query=", "oemstrings")


def is_secret(path: str) -> bool:
    """Whether the value at this path may be a secret (`./devices/graphics/@passwd`), which no output shows."""
    # conditions in brackets only say which element; of brackets that nobody closes the time stays that of one look
    return bool(_SECRET.search(re.sub(r"\[[^][]*\]", "", path)))


def holds_secret(path: str, *values: object) -> bool:
    """Whether a value at this path may be one, or is XML that has one in it."""
    texts = (value for value in values if isinstance(value, str) and "<" in value)
    return is_secret(path) or any(map(_secret_in_xml, texts))


def _secret_in_xml(text: str) -> bool:
    folded = text.casefold()
    return any(word in folded for word in _WORDS) and bool(_SECRET_IN_XML.search(text))


def _check(value: dict[str, str | None]) -> dict[str, str | None]:
    for path in value:
        if not parse_path(path).steps and parse_path(path).attribute is None:
            raise ValueError(f"{path!r} names no element below the document")
    return value


def _texts(value: object) -> object:
    """Numbers and booleans as libvirt writes them."""
    if not isinstance(value, dict):
        return value
    return {
        key: ("yes" if v else "no") if isinstance(v, bool) else str(v) if isinstance(v, int | float) else v
        for key, v in value.items()
    }


Overrides = Annotated[
    dict[str, str | None],
    BeforeValidator(_texts),
    AfterValidator(_check),
    Field(
        description="What no field models, by XPath: {'./features/kvm/hidden/@state': 'on'}. "
        "Text or attribute values; null removes the node."
    ),
    Effect.RESTART,
]


def read_overrides(node: etree._Element, paths: dict[str, str | None]) -> dict[str, str | None]:
    """What the document has at these paths."""
    return {path: parse_path(path).text(node) for path in paths}


def apply_overrides(node: etree._Element, values: dict[str, str | None]) -> etree._Element:
    for path, value in values.items():
        if value is None:
            parse_path(path).remove(node)
        else:
            parse_path(path).set(node, value)
    return node
