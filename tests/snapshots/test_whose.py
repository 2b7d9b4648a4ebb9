"""Whose a snapshot is, as its description says."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmstate.snapshots.record import Record

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(words, words, st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda t: t.replace(microsecond=0)))
def test_a_record_is_read_as_it_was_written_whatever_the_names(project: str, policy: str, at: datetime) -> None:
    record = Record(project, policy, at.replace(tzinfo=UTC))
    assert Record.read(f"\n{record} ") == record


def test_a_person_can_read_it() -> None:
    at = datetime(2026, 11, 25, 1, 30, tzinfo=UTC)
    assert str(Record("shop", "nightly", at)) == "kvmstate: project=shop policy=nightly at=2026-11-25T01:30:00Z"


@pytest.mark.parametrize(
    "description",
    [
        "",
        "before the upgrade",
        "kvmstate: project=shop policy=nightly",
        "kvmstate: project=shop policy=nightly at=yesterday",
        "kvmstate: project=shop policy=nightly at=0001-01-01T00:00:00Z",
        "kvmstate: project=shop policy=nightly at=9999-12-31T23:59:59Z",
        "see kvmstate: project=shop policy=nightly at=2026-11-25T01:30:00Z",
        "kvmstate: project=shop policy=nightly at=2026-11-25T01:30:00Z, kept for Ann",
    ],
)
def test_what_somebody_described_in_own_words_is_nobodys(description: str) -> None:
    assert Record.read(description) is None
