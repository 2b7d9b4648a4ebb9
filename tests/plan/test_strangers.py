"""Whose an object is, by what the record says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scene import entry, host, resource, seen, uuid_of

from kvmstate.host.identity import UNKNOWN
from kvmstate.kinds import BY_WORD
from kvmstate.plan.whose import stranger

NET, VOL = "network/lan", "volume/images/root"
ANOTHER_COPY = "it is not the object that this project made: another one of this name, or a restored copy"
NOT_SAID = "the record does not say which object of this name this project owns"


@pytest.mark.parametrize(
    ("address", "recorded", "told", "incomplete", "why"),
    [
        (NET, "SAME", "SAME", False, ""),
        (NET, "other", "SAME", False, "another object of this name has taken its place"),
        # a run was killed before it was said
        (NET, "", "SAME", False, ""),
        (VOL, "SAME", "SAME", False, ""),
        (VOL, "other", "SAME", False, ANOTHER_COPY),
        # who looks from afar cannot tell
        (VOL, "other", UNKNOWN, False, ""),
        (VOL, UNKNOWN, "SAME", False, ""),
        (VOL, "", "SAME", False, NOT_SAID),
        # made by a run that was killed before it was said which it is: if nothing was written to it
        (VOL, "", "SAME", True, NOT_SAID),
    ],
)
def test_whether_it_is_the_one_that_the_record_means(
    address: str, recorded: str, told: str, incomplete: bool, why: str
) -> None:
    owned = resource(address)
    record = replace(entry(owned), uuid=uuid_of(owned.id) if recorded == "SAME" else recorded, incomplete=incomplete)
    found = seen(host("pool/images", address), address)
    found = found if told == "SAME" else replace(found, uuid=told)
    assert stranger(BY_WORD[owned.id.kind], record, found) == why


@pytest.mark.parametrize(
    ("written", "why"), [("<physical>196616</physical>", ""), ("<physical>9999999</physical>", NOT_SAID)]
)
def test_a_volume_that_was_just_made_is_known_by_its_emptiness(written: str, why: str) -> None:
    owned = resource(VOL)
    text = f"{written}<target><path>PATH</path><format type='qcow2'/></target>"
    found = seen(host("pool/images", VOL, root=text), VOL)
    assert stranger(BY_WORD["volume"], replace(entry(owned), uuid="", incomplete=True), found) == why


@pytest.mark.parametrize("address", [NET, VOL])
def test_what_no_record_names_is_nobodys(address: str) -> None:
    found = seen(host("pool/images", address), address)
    assert stranger(BY_WORD[found.id.kind], None, found) == "it exists on the host, and this project does not own it"
