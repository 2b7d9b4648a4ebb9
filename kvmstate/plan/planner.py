"""The whole plan, pass by pass: observe, compare, remove, check references, order, select."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from kvmstate.errors import ManifestErrors, PlanError, Problem
from kvmstate.host import Host, faults
from kvmstate.kind import Kind, Reference, references
from kvmstate.kinds import BY_WORD, ON_HOST
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Move, Observed, Resource, ResourceId
from kvmstate.plan import agreement, moves
from kvmstate.plan.compare import applied_specs, compare, last_applied, removal
from kvmstate.plan.select import select

LEAVES = (Action.DELETE, Action.FORGET)
Locate = Callable[[ResourceId, tuple[str | int, ...]], tuple[str, int, int]]


@dataclass(frozen=True)
class Options:
    """`prune` deletes what left the manifests, never more than `max_deletes` at once, and never all of it
    unless `allow_empty`. `targets` and `excludes` are addresses, or patterns of them; see `kvmstate.plan.select`.
    `moves` are what the project has renamed."""

    prune: bool = False
    allow_empty: bool = False
    max_deletes: int = 10
    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()


def make_plan(
    host: Host,
    resources: Iterable[Resource],
    inventory: Inventory,
    options: Options = Options(),
    locate: Locate | None = None,
) -> Plan:
    """Raises ManifestErrors for references to nothing, PlanError for a plan that must not be."""
    desired = {r.id: r for r in resources if BY_WORD[r.id.kind].on_host}
    moved = moves.follow(options.moves, desired, inventory, observe(host, {*desired, *inventory.entries}))
    inventory = moved.inventory
    check_references(host, desired, locate, moved.origins.values())
    changes = _changes(host, desired, inventory, moved.observed, options.prune)
    for new, old in moved.origins.items():
        changes[new] = moves.judge(changes[new], old)
    moves.hints(changes, inventory)
    ordered, left_out = select(order(changes, desired, inventory), options.targets, options.excludes)
    _check_deletes(ordered, desired, options)
    return Plan(inventory.project, host.uri, ordered, left_out)


def make_drift(host: Host, inventory: Inventory, observed: Mapping[ResourceId, Observed] | None = None) -> Plan:
    """What it would take to bring back what was applied last; the manifests do not count.

    `observed` saves looking again at what was just looked at.
    """
    desired = {id_: applied for id_, entry in inventory.entries.items() if (applied := last_applied(entry))}
    if observed is None:
        observed = observe(host, inventory.entries)
    changes = _changes(host, desired, inventory, observed, prune=False)
    return Plan(inventory.project, host.uri, order(changes, desired, inventory))


def look_again(host: Host, resources: Iterable[Resource], inventory: Inventory) -> Plan:
    """What these resources still lack, as far as it can be seen by now. Nothing else is looked at, or put in order."""
    desired = {r.id: r for r in resources}
    known = Inventory(inventory.project, {id_: e for id_, e in inventory.entries.items() if id_ in desired})
    changes = _changes(host, desired, known, observe(host, desired), prune=False)
    return Plan(inventory.project, host.uri, tuple(changes.values()))


def _changes(
    host: Host,
    desired: Mapping[ResourceId, Resource],
    inventory: Inventory,
    observed: Mapping[ResourceId, Observed],
    prune: bool,
) -> dict[ResourceId, Change]:
    changes = {}
    for id_ in {**desired, **inventory.entries}:
        resource, entry = desired.get(id_), inventory.get(id_)
        if _is_hidden(host, id_, observed):
            lifecycle = resource.lifecycle if resource else entry.lifecycle if entry else Lifecycle()
            changes[id_] = _unknown(id_, resource, lifecycle)
        elif resource:
            changes[id_] = _compared(host, resource, observed.get(id_), inventory)
        elif entry:
            changes[id_] = removal(BY_WORD[id_.kind], entry, observed.get(id_), prune)
    _keep_what_is_used(changes, desired, inventory)
    return changes


def _compared(host: Host, resource: Resource, seen: Observed | None, inventory: Inventory) -> Change:
    id_, entry = resource.id, inventory.get(resource.id)
    now = agreement.digest(host, resource, seen) if entry and seen else ""
    same = Change(id_, Action.NOOP, desired=resource, observed=seen, lifecycle=resource.lifecycle, digest=now)
    if agreement.holds(entry, now):
        return same
    change = compare(BY_WORD[id_.kind], resource, seen, entry, inventory.project, _uuid(inventory, resource))
    return replace(change, digest=now) if change.agrees else change


def observe(host: Host, ids: Iterable[ResourceId]) -> dict[ResourceId, Observed]:
    names: dict[str, set[str]] = {}
    for id_ in ids:
        names.setdefault(id_.kind, set()).add(id_.name)
    found = {}
    for kind in ON_HOST:
        if wanted := names.get(kind.word):
            with faults():
                found.update({o.id: o for o in kind.ops.observe(host, wanted).values()})
    return found


def _uuid(inventory: Inventory, resource: Resource) -> str:
    """For an object to be made: the one it had, or was chosen before, should its making have been cut off."""
    entry, rest = inventory.get(resource.id), resource.spec.rest
    known = (entry.uuid if entry else "") or (rest.findtext("uuid") if rest is not None else "")
    return known or (str(uuid.uuid4()) if resource.id.kind != "volume" else "")


def _is_hidden(host: Host, id_: ResourceId, observed: Mapping[ResourceId, Observed]) -> bool:
    """What is in a pool that is not active cannot be seen."""
    if id_.kind != "volume" or id_ in observed:
        return False
    pool_id = ResourceId("pool", id_.name.partition("/")[0])
    pool = observed.get(pool_id) or observe(host, [pool_id]).get(pool_id)
    return pool is not None and not pool.running


def _unknown(id_: ResourceId, resource: Resource | None, lifecycle: Lifecycle) -> Change:
    reason = "its pool is not active: known after the pool is started"
    spec = resource.spec if resource else None
    return Change(id_, Action.NOOP, reason, desired=resource, spec=spec, lifecycle=lifecycle, unknown=True)


def check_references(
    host: Host, desired: Mapping[ResourceId, Resource], locate: Locate | None, gone: Collection[ResourceId] = ()
) -> None:
    """Everything that a manifest names is in the manifests or on the host. Raises ManifestErrors."""
    missing: list[tuple[Resource, Reference]] = [
        (resource, ref)
        for resource in desired.values()
        for ref in references(resource.spec)
        if ref.target not in desired
    ]
    if not missing:
        return
    present = observe(host, {ref.target for _, ref in missing})
    problems = []
    for resource, ref in missing:
        if ref.target in present and ref.target not in gone:
            continue
        file, line, column = (
            locate(resource.id, ref.path) if locate else (resource.origin.file, resource.origin.line, 0)
        )
        problems.append(
            Problem(
                f"there is no {ref.target}, neither in the manifests nor on the host",
                file,
                line,
                column,
                "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in ("spec", *ref.path)).lstrip("."),
                _mend(host, ref.target),
            )
        )
    if problems:
        raise ManifestErrors(problems)


def _mend(host: Host, target: ResourceId) -> str:
    """What to do about a reference to nothing."""
    pool_id = ResourceId("pool", target.name.partition("/")[0])
    if target.kind == "volume" and (pool := observe(host, [pool_id]).get(pool_id)) and not pool.running:
        return f"{pool_id} is not active, so what is in it is not known: start it (`virsh pool-start {pool_id.name}`)"
    return f"declare a {BY_WORD[target.kind].name} named {target.name}, or correct the name"


def _keep_what_is_used(
    changes: dict[ResourceId, Change], desired: Mapping[ResourceId, Resource], inventory: Inventory
) -> None:
    """What stays, because a manifest declares it or preventDestroy keeps it, is not cut off from what it uses."""
    stays = [id_ for id_, change in changes.items() if id_ in desired or _kept(change)]
    while stays:
        user = stays.pop()
        specs = [desired[user].spec] if user in desired else applied_specs(BY_WORD[user.kind], inventory.get(user))
        for used in {ref.target for spec in specs for ref in references(spec)}:
            change = changes.get(used)
            if change and change.action is Action.DELETE and not change.blocked:
                why = "the manifests declare" if user in desired else "stays"
                changes[used] = replace(
                    change, blocked=f"{user}, which {why}, uses it", hint=f"take it out of {user} first"
                )
                stays.append(used)


def _kept(change: Change) -> bool:
    return change.action is Action.DELETE and bool(change.blocked)


def _check_deletes(changes: tuple[Change, ...], desired: Mapping[ResourceId, Resource], options: Options) -> None:
    deletes = [c for c in changes if c.action is Action.DELETE and not c.blocked]
    if deletes and not desired and not options.allow_empty:
        raise PlanError(
            f"the manifests are empty, and {len(deletes)} resources would be deleted",
            "if that is meant, say --allow-empty, or use `kvmstate destroy`",
        )
    if len(deletes) > options.max_deletes:
        raise PlanError(
            f"{len(deletes)} resources would be deleted, more than --max-deletes {options.max_deletes}",
            f"if that is meant, say --max-deletes {len(deletes)}",
        )


def order(
    changes: Mapping[ResourceId, Change], desired: Mapping[ResourceId, Resource], inventory: Inventory
) -> tuple[Change, ...]:
    """What is referred to comes first; of what leaves, what refers comes first. Raises PlanError for a cycle."""
    needs: dict[ResourceId, set[ResourceId]] = {id_: set() for id_ in changes}
    for id_, change in changes.items():
        for target in _targets(BY_WORD[id_.kind], desired.get(id_), inventory, id_, change):
            if target not in changes or target == id_:
                continue
            if changes[target].action in LEAVES:
                needs[target].add(id_)
            elif change.action not in LEAVES:
                needs[id_].add(target)
    try:
        sequence = list(TopologicalSorter({k: sorted(v) for k, v in sorted(needs.items())}).static_order())
    except CycleError as error:
        raise PlanError(f"resources refer to each other in a circle: {' -> '.join(map(str, error.args[1]))}") from error
    return tuple(replace(changes[i], needs=frozenset(needs[i])) if needs[i] else changes[i] for i in sequence)


def _targets(
    kind: Kind, resource: Resource | None, inventory: Inventory, id_: ResourceId, change: Change
) -> set[ResourceId]:
    """Everything that this resource refers to: as wanted, as applied before, and as it is on the host. What agrees is
    not touched, so that nothing waits for it."""
    if change.agrees:
        return set()
    specs = [resource.spec if resource else None, *applied_specs(kind, inventory.get(id_), resource)]
    if change.observed is not None:
        specs.append(change.observed.config)
    return {ref.target for spec in specs for ref in references(spec)}
