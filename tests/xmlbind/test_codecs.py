"""How single values are written in XML."""

from __future__ import annotations

import pytest

from kvmstate.xmlbind import codecs, document, to_text
from kvmstate.xmlbind.codecs import NUMBER, ON_OFF, TEXT, YES_NO, Scalar, present, size

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("codec", "text", "value", "written"),
    [
        (YES_NO, "yes", True, "yes"),
        (YES_NO, "no", False, "no"),
        (YES_NO, "on", False, "no"),
        (ON_OFF, "on", True, "on"),
        (ON_OFF, "off", False, "off"),
        (NUMBER, "12", 12, "12"),
        (NUMBER, "0x1f", 31, "31"),
        (NUMBER, "-1", -1, "-1"),
        (TEXT, "as it is", "as it is", "as it is"),
    ],
)
def test_scalars(codec: Scalar, text: str, value: object, written: str) -> None:
    assert codec.read(text) == value
    assert codec.write(value) == written


@pytest.mark.parametrize(
    ("unit", "xml", "bytes_"),
    [
        ("KiB", "<m>1024</m>", MIB),
        ("KiB", "<m unit='KiB'>1024</m>", MIB),
        ("KiB", "<m unit='b'>1024</m>", KIB),
        ("KiB", "<m unit='bytes'>1024</m>", KIB),
        ("KiB", "<m unit='M'>1</m>", MIB),
        ("KiB", "<m unit='MB'>1</m>", 10**6),
        ("KiB", "<m unit='MiB'>1</m>", MIB),
        ("KiB", "<m unit='g'>1</m>", GIB),
        ("KiB", "<m unit='T'>1</m>", 1 << 40),
        ("bytes", "<m>512</m>", 512),
        ("bytes", "<m> 512 </m>", 512),
        ("bytes", "<m/>", None),
    ],
)
def test_sizes_are_read_in_their_unit(unit: str, xml: str, bytes_: int | None) -> None:
    assert size(unit).read(document(xml), None) == bytes_


@pytest.mark.parametrize(
    ("unit", "bytes_", "xml"),
    [
        ("KiB", MIB, '<m unit="KiB">1024</m>'),
        ("KiB", MIB + 1, '<m unit="KiB">1025</m>'),
        ("bytes", 513, '<m unit="bytes">513</m>'),
    ],
)
def test_sizes_are_written_in_one_unit_and_never_less(unit: str, bytes_: int, xml: str) -> None:
    node = document("<m unit='GiB'>7</m>")
    size(unit).write(node, bytes_, None)
    assert to_text(node) == xml


def test_a_size_of_none_takes_its_element_away() -> None:
    node = document("<d><m unit='GiB'>7</m></d>")
    size("KiB").write(node[0], None, None)
    assert to_text(node) == "<d/>"
    # not one that is the document
    alone = document("<m>7</m>")
    size("KiB").write(alone, None, None)
    assert alone.tag == "m"


@pytest.mark.parametrize(
    ("same", "want", "seen", "expected"),
    [
        (codecs.same_path, "/a/b", "/a//b/", True),
        (codecs.same_path, "/a/./b", "/a/b", True),
        (codecs.same_path, "a/b", "/a/b", False),
        (codecs.same_path, "/a/../b", "/b", False),
        (codecs.same_path, "/a", None, False),
        (codecs.same_path, None, "/a", False),
        (codecs.same_case, "52:54:00:AA", "52:54:00:aa", True),
        (codecs.same_case, "a", "b", False),
        (codecs.same_case, "a", None, False),
        (codecs.same_case, None, None, False),
        (codecs.same_flag, False, None, True),
        (codecs.same_flag, False, False, True),
        (codecs.same_flag, True, None, False),
        (codecs.same_flag, True, True, True),
    ],
)
def test_what_is_the_same(same: object, want: object, seen: object, expected: bool) -> None:
    assert same(want, seen) is expected  # type: ignore[operator]


@pytest.mark.parametrize("value", [True, False, None])
def test_a_child_says_yes_by_being_there(value: bool | None) -> None:
    codec = present("readonly")
    for before in ("<d/>", "<d><readonly/></d>"):
        node = document(before)
        codec.write(node, value, None)
        assert len(node) == bool(value)
        assert codec.read(node, None) is (True if value else None)


def test_every_unit_of_libvirt_has_its_size() -> None:
    assert codecs.UNITS["KB"] == 1000
    assert codecs.UNITS["K"] == codecs.UNITS["KiB"] == codecs.UNITS["k"] == 1024
    assert codecs.UNITS["EiB"] == 1 << 60
