"""Reading a section out of XML, and writing one into it."""

from __future__ import annotations

from typing import Any

import pytest
from toys import Inner, Made, Part, Round, Square, Step, Toy

from kvmstate.xmlbind import canonical, document, meaning, parse, patch, to_text, without


@pytest.mark.parametrize(
    ("xml", "values"),
    [
        ("<d/>", {}),
        ("<d><text>t</text></d>", {"text": "t"}),
        ("<d><text> t </text></d>", {"text": "t"}),
        # what is empty says nothing
        ("<d><text/></d>", {}),
        ("<d><number value=''/></d>", {}),
        ("<d><number value='0x10'/></d>", {"number": 16}),
        ("<d><yes is='no'/><on is='on'/></d>", {"yes": False, "on": True}),
        ("<d><flag/></d>", {"flag": True}),
        ("<d><amount unit='MiB'>1</amount></d>", {"amount": 1 << 20}),
        ("<d><pair a='1' b='2'/></d>", {"pair": "1:2"}),
        ("<d><pair/></d>", {}),
        ("<d><word>a</word><word/><word>b</word></d>", {"words": ["a", "b"]}),
        # an element says something by being there
        ("<d><inner/></d>", {"inner": Inner()}),
        ("<d><inner level='3'/></d>", {"inner": Inner(level=3)}),
        # one that is shared does not
        ("<d><common/></d>", {}),
        ("<d><common other='x'/></d>", {}),
        ("<d><common level='3'/></d>", {"shared": Inner(level=3)}),
        ("<d><parts/></d>", {}),
        (
            "<d><parts><part name='a'/><part name='b' kind='slow'><speed>1</speed></part></parts></d>",
            {"parts": [Part.model_construct({"name"}, name="a", kind=None), Part(name="b", kind="slow", speed=1)]},
        ),
        ("<d><shape type='square'><side>2</side></shape></d>", {"shape": Square(type="square", side=2)}),
        ("<d><nobody><knows/></nobody></d>", {}),
        # what no manifest may say is read as it is
        ("<d><parts><part name='a' kind='odd'/></parts></d>", {"parts": [Part.model_construct(name="a", kind="odd")]}),
    ],
)
def test_what_is_read(xml: str, values: dict[str, Any]) -> None:
    found = parse(Toy, document(xml))
    assert {name: getattr(found, name) for name in found.model_fields_set} == values
    # what is not there is absent: the default is what a manifest means by saying nothing
    absent = {name: getattr(found, name) for name in type(found).model_fields if name not in values}
    assert {name: value for name, value in absent.items() if value not in (None, [], {})} == {}


def test_what_is_read_owns_what_is_there_alone() -> None:
    found = parse(Toy, document("<d><parts><part name='a'/></parts><inner level='1'/></d>"))
    assert found.parts[0].model_fields_set == {"name"}
    assert found.parts[0].kind is None
    assert found.inner is not None
    assert found.inner.model_fields_set == {"level"}


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("<d x='1'><y/></d>", {}, "<d x='1'><y/></d>"),
        ("<d/>", {"text": "t", "number": 1}, "<d><text>t</text><number value='1'/></d>"),
        ("<d/>", {"yes": False, "on": True, "flag": True}, "<d><yes is='no'/><on is='on'/><flag/></d>"),
        ("<d/>", {"amount": 1025}, "<d><amount unit='KiB'>2</amount></d>"),
        # what says so already keeps its spelling
        ("<d><amount unit='MiB'>1</amount></d>", {"amount": 1 << 20}, "<d><amount unit='MiB'>1</amount></d>"),
        ("<d><path>/a//b</path></d>", {"path": "/a/b"}, "<d><path>/a//b</path></d>"),
        ("<d><mac address='AA'/></d>", {"mac": "aa"}, "<d><mac address='AA'/></d>"),
        # None takes away, but not what libvirt must have
        ("<d><text>t</text><number value='1'/></d>", {"text": None, "number": None}, "<d/>"),
        ("<d><number value='1' other='2'/></d>", {"number": None}, "<d><number other='2'/></d>"),
        ("<d><mac address='aa'/></d>", {"mac": None}, "<d><mac address='aa'/></d>"),
        ("<d><flag/></d>", {"flag": False}, "<d/>"),
        ("<d><pair a='1' b='2'/></d>", {"pair": None}, "<d><pair/></d>"),
        # sections: only what is owned, in place
        ("<d><inner level='1'><kept/></inner></d>", {"inner": Inner(note="n")},
         "<d><inner level='1'><kept/><note>n</note></inner></d>"),
        ("<d/>", {"inner": Inner()}, "<d><inner/></d>"),
        ("<d><inner level='1'><kept/></inner></d>", {"inner": None}, "<d/>"),
        # what an element needs besides, when it is made
        ("<d/>", {"made": Made()}, "<d><made model='best'><backend>x</backend></made></d>"),
        ("<d><made/></d>", {"made": Made(level=1)}, "<d><made level='1'/></d>"),
        # of a shared element the own fields alone
        ("<d><common level='1' other='2'><note>n</note><kept/></common></d>", {"shared": None},
         "<d><common other='2'><kept/></common></d>"),
        # another member of a union leaves nothing of itself
        ("<d><shape type='square'><side>2</side><kept/></shape></d>", {"shape": Round(type="round", radius=1)},
         "<d><shape type='round'><kept/><radius>1</radius></shape></d>"),
        ("<d><word>a</word><x/><word>b</word></d>", {"words": ["a", "c"]}, "<d><word>a</word><x/><word>c</word></d>"),
        ("<d><word>a</word></d>", {"words": []}, "<d/>"),
    ],
)  # fmt: skip
def test_what_is_written(before: str, values: dict[str, Any], after: str) -> None:
    node = patch(document(before), Toy(**values))
    assert meaning(node) == meaning(document(after))
    # twice is once
    assert meaning(patch(node, Toy(**values))) == meaning(document(after))


@pytest.mark.parametrize(
    ("before", "names", "after"),
    [
        # items are edited where they are, with what else they have; new ones follow the last
        ("<part name='a' x='1'/><part name='b' x='2'/><end/>", ["b", "a"],
         "<part name='a' x='1'/><part name='b' x='2'/><end/>"),
        ("<part name='a' x='1'/><end/>", ["a", "n"], "<part name='a' x='1'/><part made='new' name='n'/><end/>"),
        ("<part name='a' x='1'/><part name='b'/>", ["b"], "<part name='b'/>"),
        ("", ["n"], "<part made='new' name='n'/>"),
        ("<part name='a'/>", [], ""),
        # what is not of the values named is something else
        ("<part name='a' type='z'/><part name='b' type='a'/>", ["n"],
         "<part name='a' type='z'/><part made='new' name='n'/>"),
        # of two with one key the last one stays
        ("<part name='a' x='1'/><part name='a' x='2'/>", ["a"], "<part name='a' x='2'/>"),
    ],
)  # fmt: skip
def test_items_with_a_key(before: str, names: list[str], after: str) -> None:
    node = document(f"<d><parts>{before}</parts></d>")
    patch(node, Toy(parts=[Part(name=name) for name in names]))
    assert to_text(node) == to_text(document(f"<d><parts>{after}</parts></d>"))


@pytest.mark.parametrize(
    ("before", "steps", "after"),
    [
        # those at the beginning that say what is wanted keep what else they have
        ("<step does='a' x='1'/><step does='b' x='2'/>", ["a", "c"], "<step does='a' x='1'/><step does='c'/>"),
        ("<step does='a' x='1'/><step does='b' x='2'/>", ["a"], "<step does='a' x='1'/>"),
        ("<step does='a' x='1'/>", ["b", "a"], "<step does='b'/><step does='a'/>"),
        ("<step does='a' times='1'/>", ["a", "a"], "<step does='a' times='1'/><step does='a'/>"),
    ],
)
def test_items_without_a_key(before: str, steps: list[str], after: str) -> None:
    node = document(f"<d><steps>{before}</steps></d>")
    patch(node, Toy(steps=[Step(does=does) for does in steps]))
    assert to_text(node) == to_text(document(f"<d><steps>{after}</steps></d>"))


def test_the_default_of_what_is_owned_is_written_and_of_what_is_not_is_not() -> None:
    assert to_text(patch(document("<p/>"), Part(name="a"))) == '<p name="a"/>'
    assert to_text(patch(document("<p/>"), Part(name="a", kind="fast"))) == '<p name="a" kind="fast"/>'


def test_canonical_text_has_one_spelling() -> None:
    assert canonical("<a  y='1' x='2'>\n  <b/>\n</a>") == canonical('<a x="2" y="1"><b></b></a>')
    assert canonical("<a><b/><c/></a>") != canonical("<a><c/><b/></a>")


@pytest.mark.parametrize(
    ("xpaths", "left"),
    [
        ((), '<a x="1"><b n="1"><c></c></b><b></b></a>'),
        (("b",), '<a x="1"></a>'),
        (("@x", "b/@n"), "<a><b><c></c></b><b></b></a>"),
        (("//c",), '<a x="1"><b n="1"></b><b></b></a>'),
        (("b[@n='1']",), '<a x="1"><b></b></a>'),
        (("nothing", "@nothing"), '<a x="1"><b n="1"><c></c></b><b></b></a>'),
    ],
)
def test_what_is_volatile_is_left_out(xpaths: tuple[str, ...], left: str) -> None:
    assert without("<a x='1'><b n='1'><c/></b><b/></a>", xpaths) == left


def test_no_entity_is_resolved() -> None:
    text = "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><d><text>&e;</text></d>"
    assert parse(Toy, document(text)).text is None
