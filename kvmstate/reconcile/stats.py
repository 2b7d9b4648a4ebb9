"""Figures for the metrics, taken from what passes and policies have seen anyway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from kvmstate.kind import Space
from kvmstate.kinds import BY_WORD
from kvmstate.kinds.snapshot_policy.run import Outcome
from kvmstate.model.plan import Plan


def spaces(plan: Plan) -> Mapping[str, Space]:
    """Of the active pools that the plan has looked at, by name."""
    found = {}
    for change in plan.changes:
        if change.observed and (space := BY_WORD[change.id.kind].ops.space(change.observed)):
            found[change.id.name] = space
    return found


def newest(outcomes: Iterable[Outcome]) -> Mapping[str, datetime]:
    """When the newest snapshot of each policy was taken: of the machine where that is longest ago. A policy of which a
    machine has none is left out."""
    found: dict[str, datetime] = {}
    without = set()
    for outcome in outcomes:
        if outcome.skipped and not outcome.verdicts:
            continue
        policy = outcome.policy.id.name
        taken = [verdict.snapshot.at for verdict in outcome.verdicts if verdict.snapshot.name not in outcome.deleted]
        if not taken:
            without.add(policy)
        else:
            found[policy] = min(max(taken), found.get(policy, max(taken)))
    return {policy: at for policy, at in found.items() if policy not in without}
