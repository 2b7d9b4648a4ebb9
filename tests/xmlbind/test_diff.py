"""What would have to change, what was applied and was removed from the manifest, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from toys import Inner, Made, Part, Round, Square, Step, Toy, Tuned

from kvmstate.model.effect import Effect
from kvmstate.xmlbind import diff, document, leaving, with_cleared

LIVE, RESTART, REPLACE, REFUSED = Effect.LIVE, Effect.RESTART, Effect.REPLACE, Effect.REFUSED


def told(want: Any, seen: Any, active: Any = None) -> list[tuple[str, Any, Any, Effect]]:
    return [(f.where, f.old, f.new, f.effect) for f in diff(want, seen, active)]


@pytest.mark.parametrize(
    ("want", "seen", "expected"),
    [
        # what the manifest does not say is not a difference
        ({}, {"text": "t", "parts": [Part(name="a")]}, []),
        ({"text": "t"}, {"text": "t", "number": 1}, []),
        ({"text": "t"}, {}, [("text", None, "t", RESTART)]),
        ({"text": None}, {"text": "t"}, [("text", "t", None, RESTART)]),
        ({"text": "t\n"}, {"text": "t"}, []),
        ({"flag": False}, {}, []),
        ({"flag": True}, {}, [("flag", None, True, RESTART)]),
        ({"mac": None}, {"mac": "aa"}, []),
        # costs by direction
        ({"number": 2}, {"number": 1}, [("number", 1, 2, LIVE)]),
        ({"number": 1}, {"number": 2}, [("number", 2, 1, REFUSED)]),
        ({"number": 1}, {}, [("number", None, 1, REFUSED)]),
        # sections
        ({"inner": Inner(level=1)}, {"inner": Inner(level=2, note="n")}, [("inner.level", 2, 1, RESTART)]),
        ({"inner": Inner()}, {"inner": Inner(level=2)}, []),
        ({"inner": None}, {"inner": Inner(level=2)}, [("inner", Inner(level=2), None, RESTART)]),
        # in parts: each has a cost, also where the whole comes or goes
        ({"tuned": Tuned(share=1, quota=2)}, {}, [("tuned.share", None, 1, LIVE), ("tuned.quota", None, 2, LIVE)]),
        ({"tuned": None}, {"tuned": Tuned(share=1, quota=2, pins=[Part(name="a")])},
         [("tuned.share", 1, None, RESTART), ("tuned.quota", 2, None, LIVE),
          ("tuned.pins[a]", Part(name="a"), None, RESTART)]),
        ({"tuned": Tuned(pins=[Part(name="a")])}, {}, [("tuned.pins[a]", None, Part(name="a"), LIVE)]),
        # one that says nothing is nothing to libvirt, unless its element says something by being there
        ({"inner": Inner()}, {}, []),
        ({"inner": Inner(level=None)}, {}, []),
        ({"made": Made()}, {}, [("made", None, Made(), RESTART)]),
        ({"made": None}, {"made": Made()}, [("made", Made(), None, RESTART)]),
        ({"words": []}, {}, []),
        ({"words": ["a"]}, {"words": ["b"]}, [("words", ["b"], ["a"], RESTART)]),
        # another member of a union is another thing
        (
            {"shape": Round(type="round")},
            {"shape": Square(type="square", side=1)},
            [("shape", Square(type="square", side=1), Round(type="round"), RESTART)],
        ),
        # keyed lists: by key, in any order
        ({"parts": [Part(name="a"), Part(name="b")]}, {"parts": [Part(name="b"), Part(name="a")]}, []),
        ({"parts": [Part(name="a", speed=1)]}, {"parts": [Part(name="a", speed=2)]}, [("parts[a].speed", 2, 1, LIVE)]),
        ({"parts": []}, {"parts": [Part(name="a")]}, [("parts[a]", Part(name="a"), None, LIVE)]),
        (
            {"parts": [Part(name="n", kind="slow")]},
            {"parts": []},
            [("parts[n]", None, Part(name="n", kind="slow"), RESTART)],
        ),
        # two of one key: one is wanted, and one is too many
        (
            {"parts": [Part(name="a", speed=2)]},
            {"parts": [Part(name="a", speed=1), Part(name="a", speed=2)]},
            [("parts[a]", Part(name="a", speed=1), None, LIVE)],
        ),
        (
            {"parts": []},
            {"parts": [Part(name="a", speed=1), Part(name="a", speed=2)]},
            [("parts[a]", Part(name="a", speed=2), None, LIVE), ("parts[a]", Part(name="a", speed=1), None, LIVE)],
        ),
        # as an imported manifest may have them
        ({"parts": [Part(name="a"), Part(name="a")]}, {"parts": [Part(name="a"), Part(name="a")]}, []),
        (
            {"parts": [Part(name="a"), Part(name="a"), Part(name="b")]},
            {"parts": [Part(name="a"), Part(name="a"), Part(name="b", speed=1), Part(name="b")]},
            [("parts[b]", Part(name="b", speed=1), None, LIVE)],
        ),
        # other lists: as a whole, by what is owned
        ({"steps": [Step(does="a")]}, {"steps": [Step(does="a", times=1)]}, []),
        (
            {"steps": [Step(does="a")]},
            {"steps": [Step(does="a"), Step(does="b")]},
            [("steps", [Step(does="a"), Step(does="b")], [Step(does="a")], REPLACE)],
        ),
        ({"steps": [Step(does="a")]}, {}, [("steps", [], [Step(does="a")], REPLACE)]),
        # maps: by key
        ({"xml": {"./a": "1", "./b": None}}, {"xml": {"./a": "2", "./b": "3"}},
         [("xml[./a]", "2", "1", RESTART), ("xml[./b]", "3", None, RESTART)]),
        ({"xml": {"./a": "1"}}, {}, [("xml[./a]", None, "1", RESTART)]),
    ],
)  # fmt: skip
def test_differences(want: dict[str, Any], seen: dict[str, Any], expected: list[Any]) -> None:
    assert told(Toy(**want), Toy(**seen)) == expected


def test_of_what_is_not_there_all_that_is_said_differs() -> None:
    assert told(Toy(text="t", inner=Inner()), None) == [("text", None, "t", RESTART)]


@pytest.mark.parametrize(
    ("active", "effect"), [(Toy(most=2), REFUSED), (Toy(most=3), LIVE), (Toy(), LIVE), (None, LIVE)]
)
def test_what_runs_bounds_what_grows_live(active: Toy | None, effect: Effect) -> None:
    assert told(Toy(number=3), Toy(number=1), active) == [("number", 1, 3, effect)]


@pytest.mark.parametrize(
    ("want", "seen", "sensitive"),
    [
        ({"text": "a"}, {}, False),
        ({"secret": "a"}, {}, True),
        ({"half_secret": "ok"}, {}, False),
        ({"half_secret": "ok"}, {"half_secret": "hunter2"}, True),
        ({"xml": {"./graphics/@passwd": "x"}}, {}, True),
        ({"xml": {"./graphics/@port": "x"}}, {}, False),
    ],
)
def test_secrets_are_marked(want: dict[str, Any], seen: dict[str, Any], sensitive: bool) -> None:
    assert [f.sensitive for f in diff(Toy(**want), Toy(**seen))] == [sensitive]


@pytest.mark.parametrize(
    ("want", "last", "rest", "cleared"),
    [
        ({}, {}, None, {}),
        ({"text": "t"}, {"text": "old"}, None, {"text": "t"}),
        ({}, {"text": "old"}, None, {"text": None}),
        ({}, {"beyond": "x"}, None, {"beyond": "default"}),
        # what was the default needs no clearing
        ({}, {"beyond": "default"}, None, {}),
        ({}, {"mac": "aa"}, None, {}),
        ({}, {"inner": Inner(level=1)}, None, {"inner": None}),
        ({"inner": Inner()}, {"inner": Inner(level=1)}, None, {"inner": Inner(level=None)}),
        ({}, {"parts": [Part(name="a")]}, None, {"parts": []}),
        (
            {"parts": [Part(name="a")]},
            {"parts": [Part(name="a", speed=1)]},
            None,
            {"parts": [Part(name="a", speed=None)]},
        ),
        ({"parts": [Part(name="n")]}, {"parts": [Part(name="a", speed=1)]}, None, {"parts": [Part(name="n")]}),
        ({"xml": {"./b": "1"}}, {"xml": {"./a": "1"}}, None, {"xml": {"./b": "1", "./a": None}}),
        ({}, {"xml": {"./a": "1"}}, None, {"xml": {"./a": None}}),
        # not what XML beside the fields says now
        ({}, {"text": "old", "number": 1}, "<d><text>said</text></d>", {"number": None}),
        ({}, {"parts": [Part(name="a")]}, "<d><parts><part name='b'/></parts></d>", {}),
        ({}, {"inner": Inner(level=1)}, "<d><inner/></d>", {}),
        ({}, {"flag": True}, "<d><flag/></d>", {}),
        ({}, {"flag": True}, "<d/>", {"flag": None}),
    ],
)
def test_what_has_left_is_cleared(
    want: dict[str, Any], last: dict[str, Any], rest: str | None, cleared: dict[str, Any]
) -> None:
    found = with_cleared(Toy(**want), Toy(**last), document(rest) if rest else None)
    assert {name: getattr(found, name) for name in found.model_fields_set} == cleared


@pytest.mark.parametrize("last", [None, Inner(level=1)])
def test_nothing_is_cleared_without_anything_of_its_like(last: Any) -> None:
    want = Toy(text="t")
    assert with_cleared(want, last) is want


SEEN = Toy(text="seen", inner=Inner(level=9, note="seen"), parts=[Part(name="a", speed=9), Part(name="b", speed=8)])


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        (["text"], ["inner.level", "parts[a].speed", "parts[n]", "parts[b]"]),
        (["inner"], ["text", "parts[a].speed", "parts[n]", "parts[b]"]),
        (["inner", "level"], ["text", "parts[a].speed", "parts[n]", "parts[b]"]),
        (["parts"], ["text", "inner.level"]),
        (["parts", "a"], ["text", "inner.level", "parts[n]", "parts[b]"]),
        (["parts", "a", "speed"], ["text", "inner.level", "parts[n]", "parts[b]"]),
        # one that is not there does not come, one that is there does not go
        (["parts", "n"], ["text", "inner.level", "parts[a].speed", "parts[b]"]),
        (["parts", "b"], ["text", "inner.level", "parts[a].speed", "parts[n]"]),
        (["nothing"], ["text", "inner.level", "parts[a].speed", "parts[n]", "parts[b]"]),
        (["number"], ["text", "inner.level", "parts[a].speed", "parts[n]", "parts[b]"]),
    ],
)
def test_what_is_ignored_differs_no_more(path: list[str], differs: list[str]) -> None:
    want = Toy(text="t", inner=Inner(level=1), parts=[Part(name="a", speed=1), Part(name="n")])
    assert [f.where for f in diff(leaving(want, SEEN, path), SEEN)] == differs
