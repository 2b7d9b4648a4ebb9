"""What others have written where kvmstate's own notes are expected, harms nobody and gives leave to nothing."""

from __future__ import annotations

import pytest
from in_memory import MemoryHost, Thing

from kvmstate.host import files
from kvmstate.host.objects import Domain
from kvmstate.snapshots import dropped
from kvmstate.xmlbind.document import to_text

BROKEN = ["[", "{}", '{"/a": 1}', "7", '"/etc/passwd"', "null", "[1]", '["/a", null]', "[[" * 600 + "]]" * 600]


def machine(listed: str) -> Thing:
    from lxml import etree

    root = etree.Element("domain")
    etree.SubElement(root, "name").text = "web"
    node = etree.SubElement(etree.SubElement(root, "metadata"), "{https://kvmstate.dev/xmlns/dropped/1.0}dropped")
    node.set("files", listed)
    return MemoryHost().add(to_text(root))


def test_whole_notes_are_read() -> None:
    assert dropped.read(Domain(machine('["/a", "/b"]'))) == {"/a", "/b"}


@pytest.mark.parametrize("listed", BROKEN)
def test_broken_notes_of_dropped_files_name_none(listed: str) -> None:
    assert dropped.read(Domain(machine(listed))) == frozenset()


@pytest.mark.parametrize("listed", BROKEN)
def test_what_an_image_says_of_its_backing_may_be_anything(listed: str) -> None:
    """A name that QEMU would take for options, from the header of an image."""
    assert files.below(files.File("/images/a", "qcow2", f"json:{listed}", "raw", ())) == []
