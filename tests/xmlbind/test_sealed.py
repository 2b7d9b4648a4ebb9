"""Hashes stand where secrets stood, and whoever has the key and the secret knows them again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmstate.kinds import ALL_KINDS, BY_WORD
from kvmstate.model.change import FieldChange, Key
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.xmlbind import (
    Seal,
    Section,
    Sensitive,
    bindings,
    by_hash,
    is_sealed,
    opened,
    sealed,
    sealed_fields,
    sealed_xml,
    secrets,
    secrets_in_xml,
)
from kvmstate.xmlbind.codecs import TEXT

SEAL = Seal(b"k" * 32)
MACHINE, VOLUME = BY_WORD["domain"].sections, BY_WORD["volume"].sections
REST = (
    "<?kvmstate parts of disks?><domain type='qemu'>\n <os><smbios mode='x'/></os><devices>"
    "<graphics type='vnc' passwd='s3cret'/><graphics type='spice' passwd='*****'/></devices>"
    "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='a\"s3cret&lt;'/>"
    "</qemu:commandline></domain>"
)
HELD: dict[str, tuple[Any, Any]] = {
    "a password by its path": ({"xml": {"./devices/graphics/@passwd": "s3cret"}}, MACHINE),
    "a command line": ({"kernel": {"path": "/k", "cmdline": "quiet luks=s3cret"}}, MACHINE),
    "XML beside the fields": ({"remainder": REST}, MACHINE),
    "a URL": ({"content": {"url": "https://h/a/b?sig=s3cret&x=s3cret", "checksum": "c"}}, VOLUME),
    "a URL in a text": ({"description": "see https://me:s3cret@h/ and http://h/#s3cret, too"}, MACHINE),
    "a field that no version knows": ({"console": {"password": "s3cret"}}, MACHINE),
}
PLAIN: dict[str, tuple[Any, Any]] = {
    "a path that holds none": ({"xml": {"./features/kvm/hidden/@state": "on"}}, MACHINE),
    "a well-known command line": ({"kernel": {"path": "/k", "cmdline": "console=ttyS0 quiet"}}, MACHINE),
    "XML without any": ({"remainder": "<domain>\n  <os/> </domain>"}, MACHINE),
    "a URL without any": ({"content": {"url": "https://h/a/b;c"}}, VOLUME),
    "numbers and nothing": ({"memory": 5, "autostart": None, "xml": {"./@passwd": None, "./a/@passwd": ""}}, MACHINE),
}


@pytest.mark.parametrize("name", HELD)
def test_a_secret_is_hidden_and_known_again(name: str) -> None:
    value, sections = HELD[name]
    hidden = sealed(value, SEAL, sections)
    assert "s3cret" not in str(hidden)
    assert is_sealed(hidden)
    assert sealed(hidden, SEAL, sections) == hidden, "twice is once"
    assert opened(hidden, by_hash(value, SEAL, sections), sections) == value
    assert opened(hidden, {}, sections) == hidden
    assert sealed(value, Seal(b"x" * 32), sections) != hidden
    assert opened(hidden, by_hash(value, Seal(b"x" * 32), sections), sections) == hidden


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_none_stays_as_it_is(name: str) -> None:
    value, sections = PLAIN[name]
    assert sealed(value, SEAL, sections) == value
    assert not is_sealed(value)


def test_xml_tells_that_secrets_of_the_host_are_those_of_a_record() -> None:
    """Of a remainder whose manifest has gone, as its machine has them; what may not be XML is hidden whole."""
    hidden = sealed({"remainder": REST}, SEAL, MACHINE)
    known = {SEAL(secret): secret for secret in secrets_in_xml(REST.replace(" mode='x'", ""))}
    back = opened(hidden, known, MACHINE)["remainder"]
    assert secrets_in_xml(back) == {"s3cret", 'a"s3cret<'}
    assert back.startswith("<?kvmstate parts of disks?>")
    assert back.count("*****") == 1
    assert sealed_xml("<domain passwd='s3cret'", SEAL) == SEAL("<domain passwd='s3cret'")


def test_differences_have_none() -> None:
    secret = FieldChange(("kernel", "cmdline"), "s3cret", "other s3cret", Effect.RESTART, sensitive=True)
    beside = FieldChange(("remainder", Key("commandline/arg")), '<arg value="s3cret"/>', None, Effect.RESTART)
    spec = BY_WORD["domain"].adapter.validate_python({"memory": 1024, "kernel": {"path": "/k", "cmdline": "a=s3cret"}})
    whole = FieldChange(("kernel",), None, spec.kernel, Effect.RESTART)
    told = sealed_fields([secret, beside, whole], SEAL)
    assert "s3cret" not in str(told)
    assert str(told).count("hmac-sha256-") == 4


@given(st.text(), st.text())
def test_hashes_are_as_different_as_secrets(one: str, other: str) -> None:
    assert (SEAL(one) == SEAL(other)) == (one == other)


def _sections(section: type[Section]) -> set[type[Section]]:
    below = {inner for b in bindings(section) for each in b.sections for inner in _sections(each)}
    return {section} | below


def test_fields_that_are_secrets_by_their_names_are_marked() -> None:
    """One that is none, such as the name of something that has a password, is an exception here."""
    every = {section for kind in ALL_KINDS for top in kind.sections for section in _sections(top)}
    assert len(every) > 10
    named = re.compile(r"passw|secret|token|cookie|credential|cmdline|_key$", re.IGNORECASE)
    for section in every:
        for b in bindings(section):
            # a section, or a reference, may say which secret is meant
            assert not named.search(b.name) or b.sensitive or b.sections or b.ref, f"{section.__name__}.{b.name}"
            # what is not text, or texts, would be recorded in clear
            assert not b.sensitive or (b.scalar is TEXT and not b.sections), b.name


def test_every_text_of_a_secret_mapping_or_list_is_hidden() -> None:
    class Told(Section):
        words: list[str | dict[str, str]] = field([], Sensitive())
        shown: list[str] = field([])

    said = {"words": ["one", {"name": "two"}], "shown": ["three"]}
    assert secrets(said, (Told,)) == {"one", "two"}
    hidden = sealed(said, SEAL, (Told,))
    assert hidden == {"words": [SEAL("one"), {"name": SEAL("two")}], "shown": ["three"]}
    assert opened(hidden, by_hash(said, SEAL, (Told,)), (Told,)) == said
