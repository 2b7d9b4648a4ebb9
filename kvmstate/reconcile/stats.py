"""Figures for the metrics, taken from what passes and policies have seen anyway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kvmstate.kinds.snapshot_policy.run import Outcome
from kvmstate.model.plan import Plan
from kvmstate.xmlbind import document


@dataclass(frozen=True)
class Space:
    """Of a pool, in bytes, as of libvirt's last look at it."""

    capacity: int
    allocation: int
    available: int


def spaces(plan: Plan) -> Mapping[str, Space]:
    """Of the active pools that the plan has looked at, by name."""
    found = {}
    for change in plan.changes:
        if change.id.kind == "pool" and change.observed and change.observed.active_xml:
            pool = document(change.observed.active_xml)
            capacity, allocation, available = (
                int(pool.findtext(name) or 0) for name in ("capacity", "allocation", "available")
            )
            found[change.id.name] = Space(capacity, allocation, available)
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
