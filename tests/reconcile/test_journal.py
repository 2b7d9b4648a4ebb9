"""What happened is kept over restarts of the daemon, whatever becomes of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmstate.reconcile import journal
from kvmstate.reconcile.journal import Journal
from kvmstate.reconcile.status_store import State, StatusStore


class Life:
    """One run of a daemon."""

    def __init__(self, folder: Path, *before: str) -> None:
        self.status = StatusStore(State())
        self.journal = Journal(self.status)
        for text in before:
            self.status.record_event("Applied", text)
        self.journal.open(folder, "shop")

    def said(self) -> list[tuple[int, str]]:
        return [(event["id"], event["message"]) for event in self.journal.since(0)]


def test_a_restart_goes_on_counting_and_what_came_before_the_file_is_kept_too(tmp_path: Path) -> None:
    Life(tmp_path).status.record_event("Applied", "first")
    again = Life(tmp_path, "at start")
    again.status.record_event("Applied", "later")
    assert again.said() == Life(tmp_path).said() == [(1, "first"), (2, "at start"), (3, "later")]


def test_a_line_that_was_cut_off_costs_that_event_alone(tmp_path: Path) -> None:
    first = Life(tmp_path)
    for text in ("one", "two"):
        first.status.record_event("Applied", text)
    file = tmp_path / "shop.events.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    Life(tmp_path).status.record_event("Applied", "three")
    assert Life(tmp_path).said() == [(1, "one"), (2, "three")]


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"[]\n", b'{"id": "x"}\n', b'{"id": 7}\n', b"\n\n", b"[" * 5000])
def test_what_is_no_event_is_passed_over(damage: bytes, tmp_path: Path) -> None:
    Life(tmp_path).status.record_event("Applied", "one")
    with (tmp_path / "shop.events.jsonl").open("ab") as file:
        file.write(damage)
    again = Life(tmp_path)
    again.status.record_event("Applied", "two")
    assert again.said() == Life(tmp_path).said() == [(1, "one"), (2, "two")]


def test_a_full_disk_is_said_once_and_costs_only_what_was_to_be_written(tmp_path: Path) -> None:
    file = tmp_path / "shop.events.jsonl"
    file.symlink_to("/dev/full")
    full = Life(tmp_path)
    for text in ("one", "two"):
        full.status.record_event("Applied", text)
    reasons = [event["reason"] for event in full.journal.since(0)]
    assert sorted(reasons) == ["Applied", "Applied", "EventStoreFailed"]
    assert "No space left" in next(e["message"] for e in full.journal.since(0) if e["reason"] == "EventStoreFailed")
    # room again
    file.unlink()
    full.status.record_event("Applied", "three")
    assert [text for _, text in Life(tmp_path).said()] == ["three"]


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    life = Life(tmp_path / "state")
    life.status.record_event("Applied", "one")
    assert "EventStoreFailed" in [event["reason"] for event in life.journal.since(0)]


def test_files_stay_small_and_the_latest_events_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FILE_MAX", 10_000)
    life = Life(tmp_path)
    for number in range(500):
        life.status.record_event("Applied", f"change {number}")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 25_000
    kept = Life(tmp_path).said()
    assert kept[-1] == (500, "change 499")
    assert [number for number, _ in kept] == list(range(501 - len(kept), 501))
    assert len(kept) > 40


def test_the_state_directory_is_systemds_or_the_users(tmp_path: Path) -> None:
    assert journal.default_folder({"STATE_DIRECTORY": "/var/lib/a:/b", "XDG_STATE_HOME": "/x"}) == Path("/var/lib/a")
    assert journal.default_folder({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "kvmstate"
