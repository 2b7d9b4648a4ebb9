"""What left a remainder goes from the document, and nothing else does."""

from __future__ import annotations

import pytest

from kvmstate.xmlbind import document, meaning, withdraw

USB = "<controller type='usb' index='0' model='{}'>{}</controller>"


@pytest.mark.parametrize(
    ("before", "now", "seen", "left"),
    [
        # attributes and text, of which somebody may have changed the value
        ("<a x='1'><b y='1'>t</b></a>", "<a><b/></a>",
         "<a x='2' z='3'><b y='1' w='2'>u</b></a>", "<a z='3'><b w='2'/></a>"),
        # an element goes with what libvirt has added to it
        (
            "<a><d><sound model='ich9'/></d></a>",
            "<a><d/></a>",
            "<a><d><sound model='ich9'><address slot='1'/></sound><x/></d></a>",
            "<a><d><x/></d></a>",
        ),
        # what only holds others goes when nothing is left in it
        ("<a><f><acpi/><pae/></f></a>", "<a/>", "<a><f><acpi/><pae/></f></a>", "<a/>"),
        ("<a><f><acpi/><pae/></f></a>", "<a/>", "<a><f><acpi/><hap/><pae/></f></a>", "<a><f><hap/></f></a>"),
        # one of several, told apart by content or by key
        (f"<a>{USB.format('x', '')}<i t='1'/><i t='2'/></a>", f"<a>{USB.format('x', '')}<i t='2'/></a>",
         f"<a>{USB.format('x', '')}<i t='1'/><i t='2'/></a>", f"<a>{USB.format('x', '')}<i t='2'/></a>"),
        # less of the same element: its address is libvirt's to choose again
        ("<a><i bus='usb'><address port='1'/></i></a>", "<a><i bus='usb'/></a>",
         "<a><i bus='usb'><address port='1'/></i></a>", "<a><i bus='usb'/></a>"),
        # another one has taken its place by hand
        ("<a><disk><target dev='vdb'/></disk></a>", "<a/>", "<a><disk><target dev='vda'/></disk></a>",
         "<a><disk><target dev='vda'/></disk></a>"),
        # nothing is a domain without these
        ("<domain type='kvm'><os><type arch='x86_64'>hvm</type><boot dev='hd'/></os></domain>", "<domain/>",
         "<domain type='kvm'><os><type arch='x86_64'>hvm</type><boot dev='hd'/></os></domain>",
         "<domain type='kvm'><os><type arch='x86_64'>hvm</type></os></domain>"),
        # nobody loses a password by a line less
        ("<a><g type='vnc' passwd='*****'/></a>", "<a><g type='vnc'/></a>", "<a><g type='vnc' passwd='x'/></a>",
         "<a><g type='vnc' passwd='x'/></a>"),
    ],
)  # fmt: skip
def test_what_left_goes(before: str, now: str, seen: str, left: str) -> None:
    node = document(seen)
    told = list(withdraw(document(before), node, [document(now)]))
    assert meaning(node) == meaning(document(left))
    assert bool(told) is (seen != left)
    assert list(withdraw(document(before), node, [document(now)])) == []


def test_what_fields_write_stays() -> None:
    before = document("<a><disk type='file'><target dev='vda'/><address slot='4'/></disk></a>")
    node = document(
        "<a><disk type='file'><source file='/x'/><target dev='vda' bus='virtio'/><address slot='4'/></disk></a>"
    )
    fields = document("<a><disk type='file'><source file='/x'/><target dev='vda'/></disk></a>")
    assert list(withdraw(before, node, [fields])) == [(("disk", "address"), None, '<address slot="4"/>')]
    assert meaning(node) == meaning(
        document("<a><disk type='file'><source file='/x'/><target dev='vda' bus='virtio'/></disk></a>")
    )


def test_what_goes_is_told_with_its_place() -> None:
    before = document("<domain><on_crash>restart</on_crash><devices><panic model='isa'/></devices></domain>")
    node = document("<domain><on_crash>restart</on_crash><devices><panic model='isa'/><x/></devices></domain>")
    assert list(withdraw(before, node, [])) == [
        (("on_crash",), None, "<on_crash>restart</on_crash>"),
        (("devices", "panic"), None, '<panic model="isa"/>'),
    ]
