"""What a declaration says of a field."""

from __future__ import annotations

from typing import Any

import pytest
from toys import Part, Round, Square, Toy

from kvmstate.model.effect import Effect, Scaling, When
from kvmstate.xmlbind import Binding, bindings, document
from kvmstate.xmlbind.binding import variant
from kvmstate.xmlbind.codecs import NUMBER, TEXT, YES_NO

FIELDS = {b.name: b for b in bindings(Toy)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", {"alias": "text", "scalar": TEXT, "effect": Effect.RESTART, "repeated": False, "default": None}),
        ("number", {"scalar": NUMBER, "effect": Scaling(Effect.LIVE, Effect.REFUSED, "most")}),
        ("yes", {"scalar": YES_NO}),
        ("half_secret", {"alias": "halfSecret"}),
        ("words", {"repeated": True, "key": None, "sections": (), "default": []}),
        ("parts", {"repeated": True, "key": "name", "sections": (Part,)}),
        ("parts", {"effect": When("kind", ("fast",), then=Effect.LIVE, otherwise=Effect.RESTART)}),
        ("shape", {"sections": (Round, Square), "repeated": False}),
        ("file", {"local": True, "xml": None}),
        ("friend", {"ref": "network", "local": False}),
        ("beyond", {"xml": None, "default": "default", "effect": Effect.NONE}),
    ],
)
def test_what_is_declared(name: str, expected: dict[str, Any]) -> None:
    assert {key: getattr(FIELDS[name], key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "want", "seen", "same"),
    [
        ("text", "a", "a", True),
        ("text", "a", "b", False),
        ("text", "a\n", "a", True),
        ("mac", "AA", "aa", True),
        ("number", 1, 2, False),
        ("flag", False, None, True),
        ("path", "/a//b", "/a/b", True),
        # two checkouts have it in different folders
        ("file", "/one/image", "/other/image", True),
        ("file", "/one/image", "/one/other", False),
        ("file", None, "/one/image", False),
    ],
)
def test_what_means_the_same(name: str, want: object, seen: object, same: bool) -> None:
    assert FIELDS[name].same(want, seen) is same


@pytest.mark.parametrize(
    ("name", "values", "hidden"),
    [
        ("text", ("a",), False),
        ("secret", ("a",), True),
        ("secret", (None,), True),
        ("half_secret", ("ok, this is known",), False),
        ("half_secret", ("ok", None), False),
        ("half_secret", ("ok", "hunter2"), True),
    ],
)
def test_what_is_not_shown(name: str, values: tuple[object, ...], hidden: bool) -> None:
    assert FIELDS[name].hides(*values) is hidden


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<shape type='round'/>", Round),
        ("<shape type='square'/>", Square),
        ("<shape/>", Round),
        ("<shape type='x'/>", Round),
    ],
)
def test_a_union_is_told_apart_by_its_text(xml: str, expected: type) -> None:
    assert variant((Round, Square), document(xml)) is expected


def test_elements_of_a_list_are_those_of_the_values_named() -> None:
    parts = "<part n='1' type='a'/><part n='2' type='z'/><part n='3'/><part n='4' type='b'/>"
    b: Binding = FIELDS["parts"]
    assert [node.get("n") for node in b.find_all(document(f"<d><parts>{parts}</parts></d>"))] == ["1", "3", "4"]


def test_the_path_of_a_field_that_is_a_list_or_a_text_is_one() -> None:
    for b in bindings(Toy):
        assert b.xml is None or b.path.steps or b.path.attribute or b.xml.path == "."
