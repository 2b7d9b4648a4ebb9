"""Figures for the metrics, taken from what passes have seen anyway."""

from __future__ import annotations

from collections.abc import Mapping

from kvmstate.kind import Space
from kvmstate.kinds import BY_WORD
from kvmstate.model.plan import Plan


def spaces(plan: Plan) -> Mapping[str, Space]:
    """Collect the space of the active pools that the plan has looked at, by name."""
    found = {}
    for change in plan.changes:
        if change.observed and (space := BY_WORD[change.id.kind].ops.space(change.observed)):
            found[change.id.name] = space
    return found
