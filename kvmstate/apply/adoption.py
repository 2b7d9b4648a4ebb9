"""Taking over what exists: as resources that a manifest can say, owned as they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kvmstate.apply.executor import Result, apply_plan, note_agreement
from kvmstate.apply.inventory import Store
from kvmstate.apply.owners import with_owners
from kvmstate.apply.size import judged
from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Observed, ResourceId
from kvmstate.plan.known import known
from kvmstate.plan.planner import look_again, observe
from kvmstate.plan.takeover import everything, takeover


@dataclass
class Existing:
    """What there is on a host, to be owned; and what no manifest can say, with the reason."""

    changes: list[Change] = field(default_factory=list)
    refused: dict[ResourceId, HostError] = field(default_factory=dict)


def existing(host: Host, store: Store, ids: Iterable[ResourceId] | None = None) -> Existing:
    """These objects, or all of the host, as resources. Raises NotFound for one that is not there."""
    wanted = list(everything(host) if ids is None else ids)
    seen = observe(host, wanted)
    host.held = {id_.name: each.xml for id_, each in seen.items() if BY_WORD[id_.kind].holds_data}
    host.forget()
    if ids is not None and (missing := [id_ for id_ in wanted if id_ not in seen]):
        raise NotFound(f"there is no {missing[0]} on the host", "`virsh list --all` and its like show what is")
    found = Existing()
    for id_ in sorted(seen):
        try:
            found.changes.append(_taken(host, store, seen[id_]))
        except HostError as error:
            found.refused[id_] = error
    plan = with_owners(Plan(store.project, host.uri, tuple(found.changes)), host)
    found.refused |= {c.id: HostError(c.blocked, c.hint) for c in plan.changes if c.owner}
    kept = [judged(replace(c, blocked=""), store.inventory) for c in plan.changes if not c.owner]
    found.refused |= {c.id: HostError(c.blocked, c.hint) for c in kept if c.blocked}
    found.changes = [c for c in kept if not c.blocked]
    return found


def _taken(host: Host, store: Store, seen: Observed) -> Change:
    """Ownership to be taken of what was observed; what its lifecycle was applied with last, stays."""
    resource = takeover(BY_WORD[seen.id.kind], seen, host, store.project)
    entry = store.inventory.get(seen.id)
    lifecycle = entry.lifecycle if entry else Lifecycle()
    resource = replace(resource, lifecycle=lifecycle)
    secret = BY_WORD[seen.id.kind].ops.secrets(seen, host)
    return Change(
        seen.id,
        Action.ADOPT,
        f"{', '.join(secret)} is secret: it stays on the host, and is not in the manifest" if secret else "",
        desired=resource,
        spec=resource.spec,
        observed=seen,
        lifecycle=lifecycle,
        uuid=seen.uuid,
        blocked="" if entry else "not owned yet",
    )


def own(host: Host, store: Store, changes: Iterable[Change]) -> Result:
    """Record that the project owns what these change, as it is; and of what is as its manifest says, that it is: no
    later plan has to compare it."""
    plan = Plan(store.project, host.uri, tuple(changes))
    result = apply_plan(plan, host, store)
    if result.ok:
        desired = {change.id: change.desired for change in plan.changes if change.desired}
        # what paths mean is told by the manifests too, by now
        host.know(known(desired, store.inventory))
        seen = {change.id: replace(change.observed) for change in plan.changes if change.observed}
        note_agreement(look_again(host, desired.values(), store.inventory, seen), store, host)
    return result
