"""Paths: what is found, what is made, and what is removed."""

from __future__ import annotations

import pytest
from lxml import etree

from kvmstate.xmlbind import document, meaning, to_text
from kvmstate.xmlbind.path import parse_path

DOCUMENT = """
<d top='t'>
  <a x='1'>one</a><a x='2'> two <b/></a><empty/>
  <c><e n='n'><f/></e><e m='k' n='o'><f deep='yes'>text</f></e></c>
  <q:q xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0' q:z='ns'>qemu</q:q>
</d>
"""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a", "one"),
        ("./a", "one"),
        ("a/@x", "1"),
        ("@top", "t"),
        ("./@top", "t"),
        ("a[2]", "two"),
        ("a[2]/@x", "2"),
        ("a[3]", None),
        ("a[@x='2']", "two"),
        ('a[@x="2"]', "two"),
        ("a[@x='9']", None),
        ("a/@y", None),
        ("empty", ""),
        ("empty/@x", None),
        ("c/e/@n", "n"),
        ("c/e[f/@deep='yes']/@m", "k"),
        ("c/e[@m='k']/f", "text"),
        # the first of several is followed, wherever it leads
        ("c/e/f/@deep", None),
        ("nothing/at/all", None),
        ("qemu:q", "qemu"),
        ("qemu:q/@qemu:z", "ns"),
        ("q", None),
    ],
)
def test_what_is_read(path: str, text: str | None) -> None:
    assert parse_path(path).text(document(DOCUMENT)) == text


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", "..", "a[x]", "a[@x=1]", "a[@x='1'", "@a/b", "a/@x/@y", "*", "a|b", "text()", "nope:a"],
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not a path|unknown namespace prefix"):
        parse_path(path)


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("<d/>", "a", "<d><a>v</a></d>"),
        ("<d/>", "@a", "<d a='v'/>"),
        ("<d/>", "a/b/@c", "<d><a><b c='v'/></a></d>"),
        ("<d><a>old<b/></a></d>", "a", "<d><a>v<b/></a></d>"),
        ("<d><a n='1'/></d>", "a[@n='1']/@x", "<d><a n='1' x='v'/></d>"),
        ("<d><a n='1'/></d>", "a[@n='2']/@x", "<d><a n='1'/><a n='2' x='v'/></d>"),
        ("<d/>", "c[t/@name='agent']/@x", "<d><c x='v'><t name='agent'/></c></d>"),
        ("<d><a/><a/></d>", "a[2]/@x", "<d><a/><a x='v'/></d>"),
        ("<d/>", "qemu:q", "<d><q:q xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>v</q:q></d>"),
    ],
)
def test_what_is_written(before: str, path: str, after: str) -> None:
    node = document(before)
    parse_path(path).set(node, "v")
    assert meaning(node) == meaning(document(after))
    assert parse_path(path).text(node) == "v"


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("<d><a/></d>", "a", "<d/>"),
        ("<d><a/><a x='1'/></d>", "a[@x='1']", "<d><a/></d>"),
        ("<d><a x='1' y='2'/></d>", "a/@x", "<d><a y='2'/></d>"),
        # an element that says nothing without it goes, its parents do not
        ("<d><a><b x='1'/></a></d>", "a/b/@x", "<d><a/></d>"),
        ("<d><a x='1'>t</a></d>", "a/@x", "<d><a>t</a></d>"),
        ("<d><a x='1'><b/></a></d>", "a/@x", "<d><a><b/></a></d>"),
        ("<d x='1'/>", "@x", "<d/>"),
        ("<d/>", "a/b", "<d/>"),
        ("<d/>", ".", "<d/>"),
    ],
)
def test_what_is_removed(before: str, path: str, after: str) -> None:
    node = document(before)
    if path == ".":
        parse_path("@nothing").remove(node)
    else:
        parse_path(path).remove(node)
    assert meaning(node) == meaning(document(after))


def test_people_read_the_prefixes_that_libvirt_writes() -> None:
    node = etree.Element("d")
    for prefix in ("kvmstate", "qemu", "dnsmasq", "libosinfo"):
        parse_path(f"{prefix}:x").set(node, "v")
        assert f"<{prefix}:x " in to_text(node)


def test_a_number_that_is_not_there_is_appended() -> None:
    node = document("<d><a/></d>")
    parse_path("a[2]").set(node, "v")
    assert to_text(node) == to_text(document("<d><a/><a>v</a></d>"))
