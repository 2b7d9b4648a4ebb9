"""What an apply tells while it is under way, where nobody watches a terminal."""

from __future__ import annotations

import re
import time

import pytest

from kvmstate.apply import Event, EventKind
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId
from kvmstate.views.apply import Lines

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
    assert "domain/web: Modifying...\ndomain/web: Still working... [shut down, 0s elapsed]\n" in said
    # how long it took is up to the machine
    assert re.search(r"domain/web: Modifications complete after \d+\.\ds\n$", after)
