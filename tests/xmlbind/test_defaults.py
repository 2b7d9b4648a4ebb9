"""What a manifest means by saying nothing, and what it leaves alone by that."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from toys import Inner, Part, Toy

from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.xmlbind import Section, diff, document, meaning, parse, patch, with_defaults, xml, xml_list


class Wheel(Section):
    place: int = xml("@place", default=0)
    size: int | None = xml("size")


class Engine(Section):
    fuel: Literal["petrol", "wood"] = xml("@fuel", default="petrol")
    # what is there may be of an older make
    make: str = xml("make", default="ours", lasting=True)


class Car(Section):
    wheels: list[Wheel] = xml_list("wheel", key="place")
    engine: Engine | None = xml("engine")
    colour: str = xml("@colour", default="grey")
    words: list[str] = xml_list("word")
    inner: Inner | None = xml("inner")
    sold: bool = field(True, effect=Effect.LIVE)


def owned(section: Any) -> Any:
    if isinstance(section, list):
        return [owned(item) for item in section]
    if not isinstance(section, Section):
        return section
    return {name: owned(getattr(section, name)) for name in sorted(section.model_fields_set)}


@pytest.mark.parametrize(
    ("want", "seen", "expected"),
    [
        ({}, None, {"colour": "grey", "sold": True}),
        ({"colour": "red", "sold": False}, None, {"colour": "red", "sold": False}),
        ({}, "<car colour='red'/>", {"colour": "grey", "sold": True}),
        # in sections that are wanted, not in others
        ({"engine": {}}, None, {"engine": {"fuel": "petrol", "make": "ours"}}),
        ({"engine": None}, "<car><engine/></car>", {"engine": None}),
        ({"inner": {}}, None, {"inner": {}}),
        # what lasts is for what is made
        ({"engine": {}}, "<car><engine><make>old</make></engine></car>", {"engine": {"fuel": "petrol"}}),
        ({"engine": {}}, "<car><engine/></car>", {"engine": {"fuel": "petrol"}}),
        ({"engine": {"make": "new"}}, "<car><engine/></car>", {"engine": {"fuel": "petrol", "make": "new"}}),
        # what tells items apart is said of each
        ({"wheels": [{}, {"place": 1, "size": 2}]}, None, {"wheels": [{"place": 0}, {"place": 1, "size": 2}]}),
        # what is empty says nothing
        ({"words": []}, None, {"words": []}),
    ],
)
def test_what_holds_where_nobody_says_otherwise(want: Any, seen: str | None, expected: Any) -> None:
    there = parse(Car, document(seen)) if seen else None
    found = owned(with_defaults(Car.model_validate(want), there))
    assert found == {"colour": "grey", "sold": True, **expected}


def test_beside_more_of_it_the_parts_that_are_wanted_have_defaults() -> None:
    found = with_defaults(Car.model_validate({"engine": {}, "wheels": [{}]}), whole=False)
    assert owned(found) == {"sold": True, "engine": {"fuel": "petrol", "make": "ours"}, "wheels": [{"place": 0}]}


def test_what_needs_no_default_stays_as_it_is() -> None:
    want = Toy(text="t", inner=Inner(level=1), parts=[Part(name="a", kind="slow")], beyond="said")
    assert with_defaults(want) is want


def test_a_default_is_written_and_then_nothing_differs() -> None:
    want = with_defaults(Car.model_validate({"engine": {}, "wheels": [{}, {"place": 1}]}))
    node = patch(document("<car/>"), want)
    wheels = "<wheel place='0'/><wheel place='1'/>"
    made = f"<car colour='grey'>{wheels}<engine fuel='petrol'><make>ours</make></engine></car>"
    assert meaning(node) == meaning(document(made))
    assert [f.where for f in diff(want, parse(Car, node).model_copy(update={"sold": True}))] == []


def test_absent_is_not_the_default() -> None:
    """A logical volume has no format: it is nobody's qcow2."""
    seen = parse(Car, document("<car/>"))
    assert seen.colour is None
    assert [(f.where, f.old, f.new) for f in diff(Car(colour="grey"), seen)] == [("colour", None, "grey")]


def test_an_item_that_does_not_say_its_key_has_the_one_that_is_the_default() -> None:
    node = patch(document("<car><wheel><size>3</size></wheel></car>"), Car(wheels=[Wheel(place=0, size=4)]))
    assert meaning(node) == meaning(document("<car><wheel place='0'><size>4</size></wheel></car>"))
