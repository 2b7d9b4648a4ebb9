"""A saved plan that changes nothing, to be made hostile."""

from __future__ import annotations

from typing import Any

from kvmstate import __version__

SAVED: dict[str, Any] = {
    "format_version": "1.0",
    "kind": "SavedPlan",
    "kvmstate_version": __version__,
    "project": "x",
    "host": "test:///default",
    "host_id": "",
    "prune": False,
    "resources": [],
    "record": {},
    "observed": {},
    "uuids": {},
    "changes": {},
    "left_out": [],
    "moved": {},
    "nameless": False,
    "uploads": {},
    "rollout": {},
    "whose": [None, None],
}
