"""Lists of elements of several tags, whose items are what they say and no more; and mappings in XML."""

from __future__ import annotations

from typing import ClassVar

from kvmstate.xmlbind import Section, diff, document, parse, patch, to_text, with_cleared, xml, xml_list
from kvmstate.xmlbind.codecs import named_values, same_case


class Inner(Section):
    exact: ClassVar[bool] = True
    name: str | None = xml("@name", same=same_case)
    colour: str | None = xml("@colour")


class Rule(Section):
    xml_tag: ClassVar[str] = "rule"
    exact: ClassVar[bool] = True
    what: str | None = xml("@what")
    inner: list[Inner] = xml_list("inner", one_or_more=True)


class Link(Section):
    xml_tag: ClassVar[str] = "link"
    exact: ClassVar[bool] = True
    to: str = xml("@to", required=True)
    values: dict[str, str | list[str]] | None = xml(".", named_values("value"))


class Top(Section):
    rules: list[Rule | Link] = xml_list("rule")


TEXT = "<top><other/><rule what='a'/><link to='b'><value name='X' value='1'/></link><rule what='c'/></top>"


def top(*items: dict[str, object]) -> Top:
    return Top.model_validate({"rules": list(items)})


A, B, C = {"what": "a"}, {"to": "b", "values": {"X": "1"}}, {"what": "c"}


def test_elements_of_several_tags_are_one_list_in_their_order() -> None:
    assert parse(Top, document(TEXT)).rules == top(A, B, C).rules
    assert [*diff(top(A, B, C), parse(Top, document(TEXT)))] == []
    assert [f.path for f in diff(top(B, A, C), parse(Top, document(TEXT)))] == [("rules",)]


def test_it_is_written_in_its_order_beside_what_else_is_there() -> None:
    for items in ((B, A, C), (A, B), (C,), (), (A, {"to": "z"}, B, C)):
        node = patch(document(TEXT), top(*items))
        assert parse(Top, node).rules == top(*items).rules
        assert node.find("other") is not None


def test_what_is_not_said_of_an_exact_item_is_not_there() -> None:
    more = document(TEXT.replace("<rule what='a'/>", "<rule what='a'><inner colour='red'/></rule>"))
    [change] = diff(top(A, B, C), parse(Top, more))
    assert change.path == ("rules",)
    # the others are told as they stand there
    assert change.new[1:] == change.old[1:]
    assert to_text(patch(more, top(A, B, C))) == to_text(document(TEXT))


def test_another_spelling_says_the_same_and_stays() -> None:
    node = document("<top><rule><inner name='Abc'/></rule></top>")
    wanted = top({"inner": {"name": "aBC"}})
    assert [*diff(wanted, parse(Top, node))] == []
    assert to_text(patch(node, wanted)) == to_text(document("<top><rule><inner name='Abc'/></rule></top>"))


def test_a_mapping_in_xml_is_one_value() -> None:
    seen = parse(Link, document("<link to='b'><value name='X' value='1'/><value name='X' value='2'/></link>"))
    assert seen.values == {"X": ["1", "2"]}
    wanted = Link.model_validate({"to": "b", "values": {"Y": "3"}})
    assert [(f.old, f.new) for f in diff(wanted, seen)] == [({"X": ["1", "2"]}, {"Y": "3"})]
    # a key that has was removed from the manifest has gone, and is not set to nothing
    assert with_cleared(wanted, seen).values == {"Y": "3"}
    assert with_cleared(Link.model_validate({"to": "b"}), seen).values is None
