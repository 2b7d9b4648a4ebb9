"""Questions to a guest's agent have an end."""

from __future__ import annotations

import json
from typing import Any, cast

import libvirt_qemu
import pytest

from kvmstate.host import agent
from kvmstate.host.objects import Domain


def test_whether_it_answers_is_asked_with_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt waits for ever for an answer to a question of its own."""
    asked = []

    def answer(domain: object, text: str, seconds: int, flags: int) -> str:
        asked.append((json.loads(text)["execute"], seconds))
        return '{"return": {}}'

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", answer)
    # a domain that libvirt itself is asked about has none of its methods
    assert agent.answers(Domain(cast(Any, object())))
    assert asked == [("guest-ping", agent._ANSWER)]
