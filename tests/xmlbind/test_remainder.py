"""XML beside the fields: when it holds, what differs, what merging does, and what stripping leaves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from kvmstate.kinds.network.spec import NetworkSpec
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.xmlbind import (
    Keyed,
    Section,
    Xml,
    contained,
    differences,
    document,
    meaning,
    merge,
    parse,
    patch,
    strip,
    to_text,
)

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.mark.parametrize(
    ("want", "seen"),
    [
        ("<a/>", "<a x='1'>text<b/></a>"),
        ("<a x='1'><b/></a>", "<a y='2' x='1'><c/><b z='3'/></a>"),
        ("<a><b/><b x='1'/></a>", "<a><b x='1'/><b/></a>"),
        ("<a><b x='1'/><b y='1'/></a>", "<a><b x='1' y='1'/><b x='1'/></a>"),
        ("<a><!-- a note --><b/></a>", "<a><b/></a>"),
        ("<a p='*****'/>", "<a p='anything'/>"),
        ("<a><b>text</b></a>", "<a><b>text</b></a>"),
    ],
)
def test_a_remainder_holds_where_all_of_it_is_found(want: str, seen: str) -> None:
    assert contained(document(want), document(seen))
    assert list(differences(document(want), document(seen))) == []


@pytest.mark.parametrize(
    ("want", "seen", "told"),
    [
        ("<a x='1'/>", "<a x='2'/>", [(("@x",), "1", "2")]),
        ("<a x='1'/>", "<a/>", [(("@x",), "1", None)]),
        ("<a><b>old</b></a>", "<a><b>new</b></a>", [(("b",), "old", "new")]),
        ("<a><b><c/></b></a>", "<a><b/></a>", [(("b", "c"), "<c/>", None)]),
        ("<a><b/><b/></a>", "<a><b/></a>", [(("b",), "<b/>", None)]),
        (
            "<a><d id='1' x='1'/><d id='2' x='1'/></a>",
            "<a><d id='2' x='2'/><d id='1' x='1'/></a>",
            [(("d[2]", "@x"), "1", "2")],
        ),
    ],
)
def test_a_difference_is_told_by_its_path(want: str, seen: str, told: object) -> None:
    assert not contained(document(want), document(seen))
    assert list(differences(document(want), document(seen))) == told


def test_merging_changes_what_is_there_and_adds_what_is_not() -> None:
    into = document("<a keep='1'><d id='1'><kept/></d><d id='2'/><one>old</one></a>")
    merge(document("<a><d id='1' x='new'/><d id='3'/><one>new</one><b/></a>"), into)
    assert meaning(into) == meaning(
        document("<a keep='1'><d id='1' x='new'><kept/></d><d id='2'/><d id='3'/><one>new</one><b/></a>")
    )


def test_a_device_at_the_same_address_is_the_same_device() -> None:
    into = document("<d><input type='mouse'><address bus='0' port='1'/></input></d>")
    merge(document("<d><input type='tablet'><address bus='0' port='1'/></input></d>"), into)
    assert [child.get("type") for child in into] == ["tablet"]


def _element(tag: str, attributes: dict[str, str], children: list[etree._Element]) -> etree._Element:
    node = etree.Element(tag, attributes)
    node.extend(copy.deepcopy(child) for child in children)
    return node


TAGS = st.sampled_from("abc")
ELEMENTS = st.recursive(
    st.builds(lambda tag, attributes: _element(tag, attributes, []), TAGS, st.dictionaries(TAGS, TAGS, max_size=2)),
    lambda children: st.builds(_element, TAGS, st.dictionaries(TAGS, TAGS, max_size=2), st.lists(children, max_size=4)),
    max_leaves=12,
)


@given(ELEMENTS, st.randoms())
def test_every_part_of_a_document_holds_in_it(node: etree._Element, random: object) -> None:
    part = copy.deepcopy(node)
    for element in list(part.iter())[1:]:
        if random.random() < 0.3 and element.getparent() is not None:  # type: ignore[attr-defined]
            element.getparent().remove(element)  # type: ignore[union-attr]
    assert contained(part, node)


@given(ELEMENTS, ELEMENTS)
def test_what_was_merged_holds(want: etree._Element, into: etree._Element) -> None:
    merge(want, into)
    want.tag = into.tag
    assert contained(want, into)


class Item(Section):
    name: Annotated[str, Xml("@name")]
    size: Annotated[int | None, Xml("size")] = None


class Document(Section):
    title: Annotated[str | None, Xml("title")] = None
    items: Annotated[list[Item], Xml("items/item"), Keyed("name")] = []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<d><title>t</title></d>", "<d/>"),
        ("<d><title lang='en'>t</title></d>", "<d><title lang='en'/></d>"),
        ("<d><items><item name='a'><size>1</size></item></items></d>", "<d/>"),
        (
            "<d><items><item name='a'><size>1</size><more/></item><item name='b'/></items><other/></d>",
            "<d><items><item name='a'><more/></item><item name='b'/></items><other/></d>",
        ),
    ],
)
def test_stripping_leaves_what_no_field_brings_back(text: str, left: str) -> None:
    node = document(text)
    spec = parse(Document, node)
    rest = strip(node, spec)
    assert to_text(rest) == to_text(document(left))
    assert meaning(patch(rest, spec)) == meaning(node)


@pytest.mark.parametrize("section", [NetworkSpec, VirtualMachineSpec])
def test_patching_what_is_left_brings_every_document_back(section: type[Section]) -> None:
    kind = {NetworkSpec: "network", VirtualMachineSpec: "domain"}[section]
    for path in sorted((CORPUS / kind).glob("*.xml")):
        node = document(path.read_text())
        spec = parse(section, node)
        if meaning(patch(copy.deepcopy(node), spec)) == meaning(node):
            assert meaning(patch(strip(node, spec), spec)) == meaning(node), path.name
