"""What an apply has changed although its plan has not shown it: somebody may have changed it since."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvmstate.host import Host
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId
from kvmstate.plan.planner import observe
from kvmstate.xmlbind import document, parse

# These follow others
_FOLLOW = {"maxMemory": "memory", "maxCpus": "cpus"}
# How much of it a guest or libvirt has filled tells nothing, nor which controllers libvirt adds for other devices; the
# size of clusters libvirt tells once it has refreshed the pool
_FILLED = {"allocation", "controllers", "cluster_size"}
Configured = dict[ResourceId, tuple[str, dict[str, Any]]]


def configured(host: Host, ids: Iterable[ResourceId]) -> Configured:
    """By address: which object it is, and its fields as its own XML says them: what its paths mean changes with pools
    that come and go."""
    found = {}
    for id_, seen in observe(host, ids).items():
        (model,) = BY_WORD[id_.kind].specs
        spec = parse(model, document(seen.xml)).model_copy(update=seen.calls)
        found[id_] = seen.uuid, spec.model_dump(exclude=_FILLED, exclude_unset=True, warnings=False)
    return found


def unasked(plan: Plan, before: Configured, after: Configured) -> list[str]:
    """The fields that differ without having been shown, of what is there before and after."""
    found = []
    changes = {change.id: change for change in plan.changes}
    for id_, (uuid, fields) in before.items():
        now_uuid, now = after.get(id_, ("", {}))
        change = changes.get(id_)
        if uuid != now_uuid or (change and change.action is Action.REPLACE):
            continue
        shown = {field.path[0] for field in (*change.fields, *change.active_fields)} if change else set()
        if change and (change.action is Action.NOOP or change.blocked):
            shown = set()
        differ = {name for name in fields.keys() | now.keys() if fields.get(name) != now.get(name)}
        found += [f"{id_}: {name}" for name in sorted(differ) if not shown & {name, _FOLLOW.get(name)}]
    return found
