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
from kvmstate.model.inventory import Entry
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Observed, ResourceId
from kvmstate.plan.known import known
from kvmstate.plan.planner import look_again, observe
from kvmstate.plan.takeover import Takeovers, everything

# So many are held at a time as what their XML says
BATCH = 100


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
    found, inventory, taking = Existing(), store.inventory, Takeovers(host, store.project)
    adopted = (
        Change(id_, Action.ADOPT, observed=seen[id_], blocked="" if inventory.get(id_) else "not owned yet")
        for id_ in sorted(seen)
    )
    # whose it is, is asked before anything is made of it
    for change in with_owners(Plan(store.project, host.uri, tuple(adopted)), host).changes:
        if change.owner:
            found.refused[change.id] = HostError(change.blocked, change.hint)
            continue
        try:
            taken = judged(_taken(host, inventory.get(change.id), seen[change.id], taking), inventory)
        except HostError as error:
            found.refused[change.id] = error
            continue
        if taken.blocked:
            found.refused[change.id] = HostError(taken.blocked, taken.hint)
        else:
            found.changes.append(taken)
    return found


def _taken(host: Host, entry: Entry | None, seen: Observed, taking: Takeovers) -> Change:
    """Ownership to be taken of what was observed; what its lifecycle was applied with last, stays."""
    # a host has many, and what was read of each takes ten times its XML: a copy keeps it, and goes
    read = replace(seen)
    resource = taking.resource(BY_WORD[seen.id.kind], read)
    lifecycle = entry.lifecycle if entry else Lifecycle()
    resource = replace(resource, lifecycle=lifecycle)
    secret = BY_WORD[seen.id.kind].ops.secrets(read, host)
    return Change(
        seen.id,
        Action.ADOPT,
        f"{', '.join(secret)} is secret: it stays on the host, and is not in the manifest" if secret else "",
        desired=resource,
        spec=resource.spec,
        observed=seen,
        lifecycle=lifecycle,
        uuid=seen.uuid,
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
        for first in range(0, len(plan.changes), BATCH):
            some = plan.changes[first : first + BATCH]
            seen = {change.id: replace(change.observed) for change in some if change.observed}
            wanted = [change.desired for change in some if change.desired]
            note_agreement(look_again(host, wanted, store.inventory, seen), store, host)
    return result
