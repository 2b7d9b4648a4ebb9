"""A list that may be written as its only item is, to whoever has one of the thing, no list."""

from __future__ import annotations

from typing import Any

import pytest

from kvmstate.xmlbind import (
    Section,
    diff,
    document,
    leaving,
    meaning,
    parse,
    patch,
    to_text,
    with_cleared,
    with_defaults,
    xml,
    xml_list,
)


class Motor(Section):
    bare = True
    made_with = {"@model": "new"}

    fuel: str | None = xml("fuel")
    power: int | None = xml("@power")


class Boat(Section):
    motor: list[Motor] = xml_list("motor", one_or_more=True)


ONE, OTHER = Motor(fuel="wood"), Motor(fuel="wind")


def boat(said: Any) -> Boat:
    return Boat.model_validate({"motor": said})


@pytest.mark.parametrize(
    ("said", "motors", "written"),
    [
        ({"fuel": "wood"}, [ONE], {"fuel": "wood"}),
        ([{"fuel": "wood"}], [ONE], {"fuel": "wood"}),
        ([{"fuel": "wood"}, {"fuel": "wind"}], [ONE, OTHER], [{"fuel": "wood"}, {"fuel": "wind"}]),
        ({}, [Motor()], {}),
        (None, [], []),
        ([], [], []),
    ],
)
def test_how_it_is_said(said: Any, motors: list[Motor], written: Any) -> None:
    assert boat(said).motor == motors
    assert boat(said).model_dump(mode="json", exclude_unset=True) == {"motor": written}


@pytest.mark.parametrize(
    ("want", "seen", "expected"),
    [
        # one alone is named as what is not a list
        ({"fuel": "wood"}, "<motor><fuel>wind</fuel></motor>", [("motor.fuel", "wind", "wood")]),
        ({}, "", [("motor", None, Motor())]),
        ({}, "<motor power='1'/>", []),
        (None, "<motor/>", [("motor", Motor(), None)]),
        (None, "", []),
        # of several each has a number
        ([{}, {"power": 2}], "<motor/><motor power='1'/>", [("motor[1].power", 1, 2)]),
        ([{}, {"power": 2}], "<motor/>", [("motor[1]", None, Motor(power=2))]),
        ([{}], "<motor/><motor power='1'/>", [("motor[1]", Motor(power=1), None)]),
        # who says one says nothing of others
        ({}, "<motor/><motor power='1'/>", []),
        ({"power": 2}, "<motor/><motor power='1'/>", [("motor.power", None, 2)]),
        # but who says none
        (None, "<motor/><motor power='1'/>", [("motor[0]", Motor(), None), ("motor[1]", Motor(power=1), None)]),
        ([], "<motor/><motor/>", [("motor[0]", Motor(), None), ("motor[1]", Motor(), None)]),
    ],
)
def test_differences(want: Any, seen: str, expected: list[Any]) -> None:
    there = parse(Boat, document(f"<boat>{seen}</boat>"))
    assert [(f.where, f.old, f.new) for f in diff(boat(want), there)] == expected


@pytest.mark.parametrize(
    ("before", "want", "after"),
    [
        # what is in a place stays there, with what else it has
        ("<motor old=''/>", {"fuel": "wood"}, "<motor old=''><fuel>wood</fuel></motor>"),
        ("<motor old=''/>", {}, "<motor old=''/>"),
        ("<end/>", {}, "<end/><motor model='new'/>"),
        ("<motor old='1'/><motor old='2'/><end/>", [{"power": 1}], "<motor old='1' power='1'/><end/>"),
        ("<motor old='1'/><motor old='2'/>", {"power": 1}, "<motor old='1' power='1'/><motor old='2'/>"),
        ("<motor/><motor/><end/>", [], "<end/>"),
        ("<motor old='1'/><end/>", [{}, {"power": 1}], "<motor old='1'/><motor model='new' power='1'/><end/>"),
        ("<motor/><end/>", None, "<end/>"),
    ],
)
def test_what_is_written(before: str, want: Any, after: str) -> None:
    node = patch(document(f"<boat>{before}</boat>"), boat(want))
    assert to_text(node) == to_text(document(f"<boat>{after}</boat>"))
    assert meaning(patch(node, boat(want))) == meaning(document(f"<boat>{after}</boat>"))


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        (["motor"], []),
        (["motor", "fuel"], ["motor.power"]),
        (["motor", "0", "fuel"], ["motor.power"]),
        (["motor", "power"], ["motor.fuel"]),
        (["motor", "1", "power"], ["motor.fuel", "motor.power"]),
    ],
)
def test_what_is_ignored_differs_no_more(path: list[str], differs: list[str]) -> None:
    seen = parse(Boat, document("<boat><motor power='1'><fuel>wind</fuel></motor></boat>"))
    want = boat({"fuel": "wood", "power": 2})
    assert [f.where for f in diff(leaving(want, seen, path), seen)] == differs


def test_what_has_left_is_cleared() -> None:
    cleared = with_cleared(boat([{"power": 1}, {"power": 2}]), boat({"fuel": "wood", "power": 1}))
    assert [item.model_dump(exclude_unset=True) for item in cleared.motor] == [{"power": 1, "fuel": None}, {"power": 2}]


@pytest.mark.parametrize(("last", "left"), [({}, "<motor old='2'/>"), ([{}], "")])
def test_what_has_left_goes_as_far_as_it_was_said(last: Any, left: str) -> None:
    node = document("<boat><motor old='1'/><motor old='2'/></boat>")
    patch(node, with_cleared(Boat(), with_defaults(boat(last))))
    assert to_text(node) == to_text(document(f"<boat>{left}</boat>"))
