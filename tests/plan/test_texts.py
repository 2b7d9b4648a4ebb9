"""What plans say of values: never nothing."""

from __future__ import annotations

from typing import Any

import pytest

from kvmstate.kinds import BY_WORD
from kvmstate.plan.texts import shown

MACHINE = BY_WORD["domain"].adapter.validate_python(
    {
        "memory": "1MiB",
        "serials": [{"port": 0}, {"port": 1, "log": "/l"}],
        "graphics": [{"type": "vnc"}],
        "rng": {},
        "disks": [{"name": "a", "file": "/a"}],
        "cpu": {"topology": {"sockets": 1, "cores": 1}},
    }
)


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (MACHINE.serials[0], "0", "port 0"),
        (MACHINE.serials[1], "1", "log /l"),
        (MACHINE.graphics[0], "vnc", "type vnc"),
        (MACHINE.disks[0], "a", "file /a"),
        (MACHINE.rng[0], None, "{}"),
        (MACHINE.cpu, None, "topology (sockets 1, cores 1)"),
        ("", None, '""'),
        ([""], None, '[""]'),
        ({}, None, "{}"),
        ([], None, "[]"),
    ],
)
def test_every_value_is_shown(value: Any, key: str | None, text: str) -> None:
    assert shown(value, key) == text
