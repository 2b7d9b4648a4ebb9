"""What may be done now: modes, backoff, change windows, confirmations. No clock is read here, and nothing looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from kvmstate.manifest.reconcile import Reconcile
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId
from kvmstate.plan.reasons import brief
from kvmstate.reconcile.status_store import Sync


@dataclass(frozen=True)
class Gates:
    """`now` is in UTC. `backoff` says why a resource is not touched yet again, `settling` why nothing that is no longer
    declared is removed yet; both are empty when it may be. `fetching` says why a resource waits for its content, and
    whether that does not come."""

    settings: Reconcile
    prune: str  # off, on, confirm
    now: datetime
    inventory: Inventory
    backoff: Callable[[ResourceId], str] = lambda id_: ""
    settling: str = ""
    fetching: Callable[[Change], tuple[str, bool]] = lambda change: ("", False)


@dataclass(frozen=True)
class Gated:
    """The plan with what must wait blocked, and how that is called; `deferred` are changes without their restarts."""

    plan: Plan
    held: dict[ResourceId, Sync] = field(default_factory=dict)
    deferred: frozenset[ResourceId] = frozenset()


def apply_gates(plan: Plan, gates: Gates) -> Gated:
    """Block, or make lighter, what may not be done now."""
    changes, held, deferred = [], {}, set()
    coming: set[ResourceId] = set()
    for change in plan.changes:
        if change.action is not Action.NOOP and not change.blocked:
            before = change
            change, sync = _gate(change, gates)
            if not sync:
                change, sync = _waits_for_content(change, gates, coming)
            if sync:
                held[change.id] = sync
            elif change is not before:
                deferred.add(change.id)
        changes.append(change)
    return Gated(replace(plan, changes=tuple(changes)), held, frozenset(deferred))


def returned(plan: Plan, entries: Mapping[ResourceId, Entry]) -> set[ResourceId]:
    """What is declared again after its deletion was confirmed: that confirmation is over."""
    return {
        change.id
        for change in plan.changes
        if change.desired and change.observed and change.action is Action.NOOP and not change.suspended
        if (entry := entries.get(change.id)) and entry.confirmed
    }


def _gate(change: Change, gates: Gates) -> tuple[Change, Sync | None]:
    settings = gates.settings
    if (change.lifecycle.mode or settings.mode) == "observe":
        return replace(change, blocked=brief(change), hint="it is only observed"), Sync.DRIFTED
    if why := gates.backoff(change.id):
        return replace(change, blocked=why), Sync.FAILED
    if change.desired is None and change.observed is not None and gates.settling:
        return replace(change, blocked=gates.settling), Sync.PENDING
    if change.action is Action.DELETE and gates.prune == "confirm":
        entry = gates.inventory.get(change.id)
        if not (entry and entry.confirmed):
            why = "removed from the manifests: its deletion waits for confirmation"
            return replace(change, blocked=why, hint=f"kvmstate confirm {change.id.typed}"), Sync.PENDING
    if change.disrupts and not settings.may_disrupt(gates.now):
        return _until_window(change, gates)
    return change, None


def _waits_for_content(change: Change, gates: Gates, coming: set[ResourceId]) -> tuple[Change, Sync | None]:
    """What is to be filled waits for its content, and what is to be made on it (`coming`) waits with it."""
    why, failed = gates.fetching(change)
    if not why and change.action is Action.CREATE and (needed := sorted(change.needs & coming)):
        why = f"waits for {needed[0]}"
    if not why:
        return change, None
    coming.add(change.id)
    return replace(change, blocked=why), Sync.FAILED if failed else Sync.PENDING


def _until_window(change: Change, gates: Gates) -> tuple[Change, Sync | None]:
    """What can be done meanwhile: a restart waits, and what is to be taken on with it is written."""
    if change.restarts and change.action is Action.UPDATE:
        lighter = replace(change, lifecycle=change.lifecycle.model_copy(update={"restart": "whenOff"}))
        if lighter.fields or lighter.live:
            return lighter, None
    opens = gates.settings.next_window(gates.now)
    when = f"{opens:%Y-%m-%d %H:%M} UTC" if opens else "never"
    why = f"waits for the change window, which opens {when}: {brief(change)}"
    return replace(change, blocked=why), Sync.PENDING
