"""What an apply tells while it is under way, where nobody watches a terminal."""

from __future__ import annotations

import re
import time

import pytest

from kvmstate.apply import Event, EventKind, Result
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId
from kvmstate.views.apply import Lines, headline

CHANGE = Change(ResourceId("domain", "web"), Action.UPDATE)


def test_what_takes_long_is_told_until_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with Lines(remind=0.01) as lines:
        lines(Event(EventKind.STARTED, CHANGE))
        lines(Event(EventKind.STEP, CHANGE, "shut down"))
        deadline = time.monotonic() + 10
        while "Still working" not in said and time.monotonic() < deadline:
            said += capsys.readouterr().err
        lines(Event(EventKind.DONE, CHANGE))
    after = capsys.readouterr().err
    assert said.startswith("domain/web: Still working... [shut down, 0s elapsed]\n")
    # how long it took is up to the machine
    assert re.search(r"domain/web: Modifications complete after \d+\.\ds\n$", after)


def test_the_last_line_says_what_became_of_all() -> None:
    complete, blocked = (headline(Result(), blocked=count) for count in (0, 2))
    assert complete == "Apply complete! Resources: 0 added, 0 changed, 0 destroyed."
    assert blocked == "Apply incomplete. Resources: 0 added, 0 changed, 0 destroyed, 2 blocked."
    skipped = headline(Result(skipped=[(CHANGE, "interrupted")]))
    assert skipped == "Apply incomplete. Resources: 0 added, 0 changed, 0 destroyed, 1 skipped."


def test_an_upload_tells_bytes_rate_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = Lines()
    for event in (Event(EventKind.STARTED, CHANGE), Event(EventKind.STEP, CHANGE, "upload base.img")):
        lines(event)
    lines(Event(EventKind.PROGRESS, CHANGE, "upload base.img", "", 1, 4 << 30))
    now[0] = 10.0
    lines(Event(EventKind.PROGRESS, CHANGE, "upload base.img", "", 1 << 30, 4 << 30))
    assert [*lines._far(CHANGE.id)] == ["1024 of 4096 MiB, 102.4 MiB/s, 30s left"]
    lines(Event(EventKind.STEP, CHANGE, "grow"))
    assert [*lines._far(CHANGE.id)] == []


def told(capsys: pytest.CaptureFixture[str], quiet: bool = False) -> list[str]:
    """The lines on stderr of two changes, one of which fails."""
    other = Change(ResourceId("network", "lan"), Action.CREATE)
    with Lines(quiet=quiet) as lines:
        for change in (CHANGE, other):
            lines(Event(EventKind.STARTED, change))
            lines(Event(EventKind.STEP, change, "define"))
        lines(Event(EventKind.DONE, CHANGE))
        lines(Event(EventKind.FAILED, other, "no bridge is free"))
    return capsys.readouterr().err.splitlines()


def test_where_nobody_watches_each_resource_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == ["domain/web: Modifications complete after 0.0s", "network/lan: failed: no bridge is free"]


def test_on_a_terminal_what_begins_is_told_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("CI", "yes")
    assert told(capsys)[:2] == ["domain/web: Modifying...", "network/lan: Creating..."]


def test_quietly_only_what_goes_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, quiet=True) == ["network/lan: failed: no bridge is free"]
