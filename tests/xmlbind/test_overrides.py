"""XML paths that a manifest sets itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from kvmstate.xmlbind import (
    Overrides,
    apply_overrides,
    document,
    holds_secret,
    is_secret,
    meaning,
    read_overrides,
)

ADAPTER: TypeAdapter[dict[str, str | None]] = TypeAdapter(Overrides)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"./a/@b": "on"}, {"./a/@b": "on"}),
        ({"./a/@b": True}, {"./a/@b": "yes"}),
        ({"./a/@b": False}, {"./a/@b": "no"}),
        ({"./a/@b": 3}, {"./a/@b": "3"}),
        ({"./a": 1.5}, {"./a": "1.5"}),
        ({"./a": None}, {"./a": None}),
        ({"@a": "x"}, {"@a": "x"}),
    ],
)
def test_values_are_what_libvirt_writes(written: dict[str, Any], value: dict[str, str | None]) -> None:
    assert ADAPTER.validate_python(written) == value


@pytest.mark.parametrize("written", [{".": "x"}, {"": "x"}, {"/a": "x"}, {"a[": "x"}, {"nope:a": "x"}, {"a": []}, "a"])
def test_what_is_not_one(written: object) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(written)


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("<d/>", {"./a/@b": "on"}, "<d><a b='on'/></d>"),
        ("<d><a b='on'/></d>", {"./a/@b": None}, "<d/>"),
        ("<d><a>1</a><a>2</a></d>", {"./a[2]": None}, "<d><a>1</a></d>"),
        ("<d><a>1</a></d>", {"./a": "2", "@x": "y"}, "<d x='y'><a>2</a></d>"),
    ],
)
def test_they_are_applied_and_read_back(before: str, values: dict[str, str | None], after: str) -> None:
    node = apply_overrides(document(before), values)
    assert meaning(node) == meaning(document(after))
    assert read_overrides(node, values) == values


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("./devices/graphics/@passwd", True),
        ("./devices/graphics/@passwdValidTo", True),
        # which one it is, not what it holds
        ("./devices/disk/auth/secret/@uuid", False),
        ("./os/cmdline", True),
        ("./os/initarg", True),
        ("./qemu:commandline/qemu:arg/@value", True),
        ("./devices/disk/source/cookies/cookie", True),
        ("./sysinfo/bios/entry", True),
        ("./devices/graphics/@port", False),
        ("./features/kvm/hidden/@state", False),
        # brackets only say which element
        ("./devices/channel[target/@name='secret']/@type", False),
    ],
)
def test_which_paths_may_hold_secrets(path: str, secret: bool) -> None:
    assert is_secret(path) is secret
    assert holds_secret(path) is secret


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("<graphics passwd='x'/>", True),
        ("<secret uuid='x'/>", True),
        ("<graphics port='1'/>", False),
        ("passwd", False),
    ],
)
def test_which_xml_holds_secrets(value: str, secret: bool) -> None:
    assert holds_secret("devices/graphics", value, None) is secret
