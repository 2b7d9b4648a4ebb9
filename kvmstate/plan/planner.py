"""The whole plan, pass by pass: observe, compare, remove, check references, order, select."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter

from kvmstate.errors import ManifestErrors, PlanError, Problem, Unseen
from kvmstate.host import Host, faults
from kvmstate.kind import Kind, Reference, Scene, references
from kvmstate.kinds import BY_WORD, ON_HOST, parent_of, undeclared
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.pool_types import Can
from kvmstate.model.resource import Lifecycle, Move, Observed, Resource, ResourceId
from kvmstate.model.rollout import Rollout
from kvmstate.plan import agreement, inner, moves, orphans, relocate, remade, sharing, targeted, versions
from kvmstate.plan.brake import check_share
from kvmstate.plan.compare import applied_specs, compare, last_applied, removal
from kvmstate.plan.dependants import with_dependants
from kvmstate.plan.known import alarms, files, known
from kvmstate.plan.select import matching, select
from kvmstate.plan.unseal import recorded, unsealed
from kvmstate.plan.uses import keep_used, reachable, with_moved_pools
from kvmstate.xmlbind import is_sealed

LEAVES = (Action.DELETE, Action.FORGET)
WRITES = (Action.CREATE, Action.UPDATE, Action.REPLACE)
Locate = Callable[[ResourceId, tuple[str | int, ...]], tuple[str, int, int, str]]


@dataclass(frozen=True)
class Seen:
    """What was there of some addresses, `asked`, and of what of these nobody can tell."""

    asked: frozenset[ResourceId] = frozenset()
    found: Mapping[ResourceId, Observed] = field(default_factory=dict)
    unseen: frozenset[ResourceId] = frozenset()


@dataclass(frozen=True)
class Options:
    """`prune` deletes what is no longer declared, never more than `max_deletes` at once, never more than the share
    `max_delete_share` of what is owned unless just so many are `meant` (see `kvmstate.plan.brake`), and never all of
    it unless `allow_empty`. `targets` and `excludes` are addresses, or patterns of them; see `kvmstate.plan.select`.
    `moves` are what the project has renamed. A `lenient` plan blocks what refers to nothing, and deletions that must
    not be, and goes on with the rest; any other is refused as a whole. `nameless`: nothing says which project this is,
    so that what is owned may be somebody else's. `recreate` are addresses of what may be made again although it is gone
    with what it held. `destroys`: all that is owned goes, also what the manifests declare; `lifecycles` are what they
    say, and count as if they had been applied. `rollout` is how machines
    are restarted."""

    prune: bool = False
    allow_empty: bool = False
    max_deletes: int = 10
    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    lenient: bool = False
    nameless: bool = False
    max_delete_share: float = 1
    meant: int | None = None
    recreate: tuple[str, ...] = ()
    destroys: bool = False
    lifecycles: Mapping[ResourceId, Lifecycle] = field(default_factory=dict)
    rollout: Rollout = field(default_factory=Rollout)


def make_plan(
    host: Host,
    resources: Iterable[Resource],
    inventory: Inventory,
    options: Options = Options(),
    locate: Locate | None = None,
    only: Collection[ResourceId] | None = None,
    seen: Seen = Seen(),
) -> Plan:
    """The plan of everything, or of `only` some that are wanted or owned: nothing else is looked at then. What was
    `seen` is not looked at again. Of targets what they need is looked at, and all where that may count.

    Raises ManifestErrors for references to nothing, PlanError for a plan that must not be.
    """
    resources, inventory = versions.resolved(host, resources, inventory, options.moves)
    renamed = versions.with_kept(options.moves, resources)
    of_versions = () if only is not None or options.targets else tuple(versions.notes(host, resources, inventory))
    if only is None and not seen.asked and (plan := _near(host, resources, inventory, options, locate)):
        return plan
    desired = {r.id: r for r in resources if BY_WORD[r.id.kind].on_host}
    inventory = _edited(inventory, options.lifecycles)
    inventory = replace(inventory, orphans={}) if options.nameless else inventory
    scope = {*desired, *inventory.entries}
    if only is not None:
        # what has moved is looked at under both names
        names = {name for move in renamed for name in (move.old, move.new) if {move.old, move.new} & {*only}}
        twins = {id_ for pair in relocate.pairs(desired, inventory).items() if {*pair} & {*only} for id_ in pair}
        scope &= {*only, *names, *twins}
    orphaned = orphans.declared(inventory, {id_: r for id_, r in desired.items() if id_ in scope})
    host.know(known(desired, replace(inventory, entries={**orphaned, **inventory.entries})))
    comes, leaves = desired.keys() - inventory.entries.keys(), inventory.entries.keys() - desired.keys()
    host.asks_uses = bool(scope & comes) or (options.prune and bool(scope & leaves))
    host.named = partial(files, dict(desired), inventory)
    # what may be deleted, or taken back, is to be the project's own
    if (options.prune or orphaned) and not host.closely:
        host.closely, seen = True, seen if host.sight.near else Seen()
    observed, unseen = look(host, scope - seen.asked)
    # later looks, also those at what was just made, are none at all that may be used
    host.asks_uses = False
    observed |= {id_: found for id_, found in seen.found.items() if id_ in scope}
    unseen |= seen.unseen & scope
    unseen |= _left_in_lost_pools(host, orphaned, observed)
    back = orphans.found(orphaned, observed)
    inventory = replace(inventory, entries={**inventory.entries, **back})
    moved = moves.follow(renamed, desired, inventory, observed)
    inventory = moved.inventory
    desired |= {r.id: r for r in moves.followers(desired.values(), moved)}
    missing, hidden = _dangling(host, desired, scope, locate, moved.origins.values())
    if missing and not options.lenient:
        raise ManifestErrors([problem for problems in missing.values() for problem in problems])
    changes = _changes(host, desired, inventory, moved.observed, unseen, options, scope)
    changes = {id_: _without_its_secrets(change) for id_, change in changes.items()}
    changes |= {id_: orphans.returned(changes[id_]) for id_ in back if id_ in changes}
    for new, old in moved.origins.items():
        if new in changes:
            changes[new] = moves.judge(changes[new], old)
    moves.left(renamed, changes, inventory)
    if not options.nameless:
        moves.hints(changes, inventory, lambda resource: recorded(host, resource))
    relocate.judge(host, changes, inventory, relocate.pairs(desired, inventory))
    inner.keep(changes, inventory, moved.origins)
    for kind in (BY_WORD[word] for word in sorted({id_.kind for id_ in changes})):
        kind.ops.judge(Scene(host, changes, desired, inventory))
    shared = sharing.brought_about(host, desired, changes, inventory, moved.origins.values())
    for resource, path, message, hint in shared:
        missing.setdefault(resource.id, []).append(_problem(resource, path, message, hint, locate))
    if shared and not options.lenient:
        raise ManifestErrors([problem for problems in missing.values() for problem in problems])
    for id_, problems in (hidden | missing).items():
        changes[id_] = replace(changes[id_], blocked=problems[0].message, hint=problems[0].hint)
    _say_what_goes(host, changes, inventory)
    if moved.origins or any(c.blocked or c.suspended for c in changes.values()):
        # what is blocked with what it needs, does not release anything
        changes |= {change.id: change for change in with_dependants(order(changes, desired, inventory))}
    remade.keep_together(changes)
    keep_used(host, changes, desired, lambda id_: _holds_own(inventory.get(id_)))
    remade.keep_together(changes)
    remade.with_machines(changes, inventory.project)
    changes = {change.id: change for change in versions.told(changes.values(), inventory)}
    with_moved_pools(changes)
    fitting, tight = _fitting(host, order(changes, desired, inventory))
    ordered = relocate.kept(with_dependants(fitting))
    ordered, left_out = select(ordered, options.targets, options.excludes)
    try:
        _check_deletes(ordered, desired, options)
        check_share(ordered, desired, inventory, options.max_delete_share, options.meant, only is not None)
    except PlanError as error:
        if not options.lenient:
            raise
        ordered = tuple(_kept_back(change, error) for change in ordered)
    if options.nameless:
        ordered = tuple(_of_nobody(change, inventory.project) for change in ordered)
    notes = () if only is not None else tuple(sharing.notes(desired, shared))
    return Plan(inventory.project, host.uri, ordered, left_out, (*notes, *of_versions, *tight, *alarms(host, ordered)))


def _fitting(host: Host, changes: tuple[Change, ...]) -> tuple[tuple[Change, ...], list[str]]:
    """See `kvmstate.plan.room`; nothing is asked where nothing grows."""
    if not any(parent_of(c.id) and c.action in WRITES and not c.blocked for c in changes):
        return changes, []
    from kvmstate.plan.room import fitting  # few plans make volumes

    known = {change.id for change in changes}
    elsewhere = {pool for c in changes if c.action in WRITES and (pool := parent_of(c.id)) and pool not in known}
    found, notes = fitting(host, changes, look(host, elsewhere)[0])
    return tuple(found), notes


def _near(
    host: Host, resources: Iterable[Resource], inventory: Inventory, options: Options, locate: Locate | None
) -> Plan | None:
    """The plan of the targets, made without a look at anything that they do not need; None where the rest may count."""
    if not options.targets or options.excludes or options.moves or options.lenient or options.destroys:
        return None
    desired = {r.id: r for r in resources if BY_WORD[r.id.kind].on_host}
    everything = {*desired, *inventory.entries}
    more, near = targeted.named(desired, everything, options.targets), set[ResourceId]()
    if not more:
        return None
    while more := targeted.with_needs(more, desired, inventory) - near:
        near |= more
        plan = make_plan(host, desired.values(), inventory, options, locate, near)
        if targeted.others_count(plan.changes, desired, near):
            return None
        more = targeted.seen_to_need(plan.changes)
    left_out = (*plan.left_out, *sorted(everything - near))
    return replace(plan, left_out=left_out, notes=(*sharing.notes(desired, ()), *plan.notes))


def _say_what_goes(host: Host, changes: dict[ResourceId, Change], inventory: Inventory) -> None:
    """Deletions say what is lost with their objects and what is kept of them, and those that would lose too much are
    blocked."""
    for kind in ON_HOST:
        gone = [c for c in changes.values() if c.id.kind == kind.word and c.action is Action.DELETE and not c.blocked]
        if gone:
            said = {change.id: applied_specs(kind, inventory.get(change.id)) for change in gone}
            changes |= {change.id: change for change in kind.ops.removed(gone, host, said)}


def _of_nobody(change: Change, project: str) -> Change:
    """What may be another folder's is not deleted, also not to be created again."""
    if change.desired is None and change.action is Action.NOOP and not change.suspended:
        return replace(change, reason=f"not in these manifests; it stays, as does all that project {project} owns")
    if change.action is not Action.REPLACE or change.blocked:
        return change
    why = "it would be deleted and created again, and nothing says which project this is: there is no kvmstate.yaml"
    return replace(change, blocked=why, hint=f"if it is that of project {project}, say --project {project}")


def _edited(inventory: Inventory, lifecycles: Mapping[ResourceId, Lifecycle]) -> Inventory:
    """The record, with these lifecycles in place of those that were applied."""
    if not lifecycles:
        return inventory
    edited = {id_: replace(e, lifecycle=lifecycles.get(id_, e.lifecycle)) for id_, e in inventory.entries.items()}
    return replace(inventory, entries=edited)


def _kept_back(change: Change, error: PlanError) -> Change:
    if not change.destroys or change.blocked:
        return change
    return replace(change, blocked=error.message, hint=error.hint)


def look_ahead(host: Host, inventory: Inventory) -> Seen:
    """What is there of all that is owned, before anything is known of what is wanted."""
    host.know(known({}, inventory))
    asked = frozenset(inventory.entries)
    found, unseen = look(host, asked)
    return Seen(asked, found, frozenset(unseen))


def make_drift(host: Host, inventory: Inventory, plan: Plan | None = None, seen: Seen = Seen()) -> Plan:
    """What it would take to bring back what was applied last; the manifests do not count.

    A `plan` of everything has just looked at the host, and saves looking again; and so does what was `seen`.
    """
    desired = {id_: applied for id_, entry in inventory.entries.items() if (applied := last_applied(entry))}
    if not host.known:
        host.know(known({}, inventory))
    if plan:
        observed = {c.id: c.observed for c in plan.changes if c.observed}
        unseen = {c.id for c in plan.changes if c.unknown}
    else:
        observed, unseen = look(host, inventory.entries.keys() - seen.asked)
        observed |= seen.found
        unseen |= seen.unseen
    changes = _changes(host, desired, inventory, observed, unseen, Options())
    return Plan(inventory.project, host.uri, order(changes, desired, inventory))


def look_again(
    host: Host, resources: Iterable[Resource], inventory: Inventory, seen: Mapping[ResourceId, Observed] | None = None
) -> Plan:
    """What these resources still lack, as far as it can be seen by now, or was `seen`. Nothing else is looked at, or
    put in order."""
    desired = {r.id: r for r in resources}
    owned = Inventory(inventory.project, {id_: e for id_, e in inventory.entries.items() if id_ in desired})
    found, unseen = look(host, desired) if seen is None else (seen, set[ResourceId]())
    changes = _changes(host, desired, owned, found, unseen, Options())
    return Plan(inventory.project, host.uri, tuple(changes.values()))


def _changes(
    host: Host,
    desired: Mapping[ResourceId, Resource],
    inventory: Inventory,
    observed: Mapping[ResourceId, Observed],
    unseen: Collection[ResourceId],
    options: Options,
    scope: Collection[ResourceId] | None = None,
) -> dict[ResourceId, Change]:
    changes = {}
    for id_ in {**desired, **inventory.entries}:
        if scope is not None and id_ not in scope:
            continue
        resource, entry = desired.get(id_), inventory.get(id_)
        if entry and entry.left and (resource is None or options.destroys):
            changes[id_] = Change(id_, Action.FORGET, f"another host has it, {entry.suspended}")
        elif why := suspended(resource, entry):
            changes[id_] = _left_alone(id_, resource, entry, observed.get(id_), why)
        elif id_ in unseen:
            lifecycle = resource.lifecycle if resource else entry.lifecycle if entry else Lifecycle()
            changes[id_] = _unknown(id_, resource, lifecycle)
        elif resource:
            changes[id_] = _compared(host, resource, observed.get(id_), inventory, options.recreate)
        elif entry:
            changes[id_] = removal(BY_WORD[id_.kind], entry, observed.get(id_), options.prune, options.destroys)
    _keep_what_is_used(changes, desired, inventory)
    return {id_: BY_WORD[id_.kind].ops.checked(host, change, inventory.get(id_)) for id_, change in changes.items()}


def _without_its_secrets(change: Change) -> Change:
    """A record has hashes of secrets, which nobody can write to a machine; and of what is given to it there may be
    nothing."""
    if change.action not in WRITES or change.blocked or not change.desired:
        return change
    if change.desired.spec.takes() and (secret := _lacking(change.desired)):
        why = f"it would be without its password: nothing says where the value of secret/{secret} is"
        return replace(change, blocked=why, hint="say it: --secret NAME=file:PATH, or others")
    if not is_sealed(change.desired.written):
        return change
    why = "what was applied last had secrets, of which the record has only hashes"
    return replace(change, blocked=why, hint="its manifest has them: see that it can be read")


def _lacking(resource: Resource) -> str:
    from kvmstate.kind.secrets import unknown  # few manifests have secrets

    return unknown(resource.spec)


def _compared(
    host: Host, resource: Resource, seen: Observed | None, inventory: Inventory, recreate: Collection[str]
) -> Change:
    id_, entry = resource.id, inventory.get(resource.id)
    now = agreement.digest(host, resource, seen) if entry and seen else ""
    same = Change(id_, Action.NOOP, desired=resource, observed=seen, lifecycle=resource.lifecycle, digest=now)
    if agreement.holds(entry, now):
        return same
    again = any(matching([id_], pattern) for pattern in recreate)
    resource, entry = unsealed(host, resource, seen, entry)
    own = _uuid(host, inventory, resource)
    change = compare(BY_WORD[id_.kind], resource, seen, entry, inventory.project, own, again, host.sealing.match)
    return replace(change, digest=now) if change.agrees else change


def observe(host: Host, ids: Iterable[ResourceId]) -> dict[ResourceId, Observed]:
    """What of these is seen to be there."""
    return look(host, ids)[0]


def look(host: Host, ids: Iterable[ResourceId]) -> tuple[dict[ResourceId, Observed], set[ResourceId]]:
    """What of these is there; and what nobody can tell of, because its pool is not active."""
    names: dict[str, set[str]] = {}
    for id_ in ids:
        names.setdefault(id_.kind, set()).add(id_.name)
    found, unseen = {}, set()
    for kind in ON_HOST:
        if wanted := names.get(kind.word):
            with faults():
                for name, seen in kind.ops.observe(host, wanted).items():
                    id_ = ResourceId(kind.word, name)
                    if isinstance(seen, Unseen):
                        unseen.add(id_)
                    else:
                        found[id_] = seen
    return found, unseen


def _left_in_lost_pools(
    host: Host, orphaned: Collection[ResourceId], observed: Mapping[ResourceId, Observed]
) -> set[ResourceId]:
    """What was left in a pool that is not there any more may be in its folder yet."""
    hidden = {id_: pool for id_ in orphaned if (pool := parent_of(id_)) and id_ not in observed}
    there = observe(host, {*hidden.values()})
    return {id_ for id_, pool in hidden.items() if pool not in there}


def suspended(resource: Resource | None, entry: Entry | None) -> str:
    """Why it is left alone until it is resumed, or an empty string."""
    lifecycle = resource.lifecycle if resource else entry.lifecycle if entry else None
    if lifecycle and lifecycle.suspend:
        return "suspended: its manifest says so"
    return f"suspended {entry.suspended}" if entry and entry.suspended else ""


def _uuid(host: Host, inventory: Inventory, resource: Resource) -> str:
    """For an object to be made: the one it had, or was chosen before, should its making have been cut off. None is
    chosen for what has none: which object it is, is known when it has been made."""
    if not BY_WORD[resource.id.kind].has_uuid:
        return ""
    entry = inventory.get(resource.id)
    found = resource.spec.own_uuid or (entry.uuid if entry else "")
    found = found or orphans.uuid(host, inventory, resource.id)
    return found or str(uuid.uuid4())


def _left_alone(
    id_: ResourceId, resource: Resource | None, entry: Entry | None, seen: Observed | None, why: str
) -> Change:
    lifecycle = resource.lifecycle if resource else entry.lifecycle if entry else Lifecycle()
    spec = resource.spec if resource else None
    return Change(
        id_, Action.NOOP, why, desired=resource, spec=spec, observed=seen, lifecycle=lifecycle, suspended=True
    )


def _unknown(id_: ResourceId, resource: Resource | None, lifecycle: Lifecycle) -> Change:
    reason = "its pool is not active: " + ("known after the pool is started" if resource else "it stays as it is")
    spec = resource.spec if resource else None
    return Change(id_, Action.NOOP, reason, desired=resource, spec=spec, lifecycle=lifecycle, unknown=True)


def check_references(host: Host, desired: Mapping[ResourceId, Resource], locate: Locate | None) -> None:
    """Everything that a manifest names is in the manifests or on the host. Raises ManifestErrors."""
    missing, unseen = _dangling(host, desired, desired, locate)
    if missing or unseen:
        raise ManifestErrors([problem for found in (missing, unseen) for each in found.values() for problem in each])


Problems = dict[ResourceId, list[Problem]]


def _dangling(
    host: Host,
    desired: Mapping[ResourceId, Resource],
    scope: Collection[ResourceId],
    locate: Locate | None,
    gone: Collection[ResourceId] = (),
) -> tuple[Problems, Problems]:
    """By resource (of `scope`), what it refers to that is neither in the manifests nor on the host; and what nobody can
    tell of."""
    missing: list[tuple[Resource, Reference]] = [
        (resource, ref)
        for id_, resource in desired.items()
        if id_ in scope
        for ref in undeclared(references(resource.spec), desired)
    ]
    present, unseen = look(host, {ref.target for _, ref in missing})
    coming = _in_new_pools(host, desired, {ref.target for _, ref in missing} - present.keys() - unseen)
    problems: Problems = {}
    hidden: Problems = {}
    for resource, ref in missing:
        target = ref.target
        if target in unseen or target in coming:
            pool = parent_of(target)
            assert pool is not None
            message = f"{target} cannot be seen: {pool} is not active"
            hint = "apply again when it is" if target in coming else f"start it: `virsh pool-start {pool.name}`"
            problem = _problem(resource, ref.path, message, hint, locate)
            hidden.setdefault(resource.id, []).append(problem)
        elif target not in present or target in gone:
            message = f"there is no {target}, neither in the manifests nor on the host"
            hint = f"declare a {BY_WORD[target.kind].name} named {target.name}, or correct the name"
            problems.setdefault(resource.id, []).append(_problem(resource, ref.path, message, hint, locate))
    return problems, hidden


def _in_new_pools(host: Host, desired: Mapping[ResourceId, Resource], ids: Collection[ResourceId]) -> set[ResourceId]:
    """Those that a pool will show which is not on the host yet, and whose volumes only its storage makes."""
    places = {id_: pool for id_ in ids if (pool := parent_of(id_)) and pool in desired}
    kept = {pool: desired[pool].spec.keeps() for pool in {*places.values()}}
    given = {pool for pool, type_ in kept.items() if type_ and Can.CREATE not in type_.can}
    new = given - look(host, given)[0].keys()
    return {id_ for id_, pool in places.items() if pool in new}


def _problem(
    resource: Resource, path: tuple[str | int, ...], message: str, hint: str, locate: Locate | None
) -> Problem:
    file, line, column = resource.origin.file, resource.origin.line, 0
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in ("spec", *path)).lstrip(".")
    with suppress(KeyError):
        # what is written nowhere has no place of its own
        file, line, column, where = locate(resource.id, path) if locate else (file, line, column, where)
    return Problem(resource.named(message), file, line, column, where, hint)


def _holds_own(entry: Entry | None) -> bool:
    """Whether what was applied holds what no manifest says again."""
    specs = applied_specs(BY_WORD[entry.id.kind], entry) if entry else []
    return not specs or any(spec.holds_own() for spec in specs)


def _keep_what_is_used(
    changes: dict[ResourceId, Change], desired: Mapping[ResourceId, Resource], inventory: Inventory
) -> None:
    """What stays, because a manifest declares it, preventDestroy keeps it or it is suspended, is not cut off from what
    it uses."""
    if not any(change.action is Action.DELETE for change in changes.values()):
        return
    # all that is declared: of a partial plan too, whose changes are some of them
    stays = [*desired, *(id_ for id_, change in changes.items() if id_ not in desired and _kept(change))]
    while stays:
        user = stays.pop()
        specs = [desired[user].spec] if user in desired else applied_specs(BY_WORD[user.kind], inventory.get(user))
        for used in {ref.target for spec in specs for ref in references(spec)}:
            change = changes.get(used)
            if change and change.action is Action.DELETE and not change.blocked:
                why = "the manifests declare" if user in desired else "stays"
                changes[used] = replace(
                    change, blocked=f"in use by {user}, which {why}", hint=f"take it out of {user} first"
                )
                stays.append(used)


def _kept(change: Change) -> bool:
    return change.suspended or (change.action is Action.DELETE and bool(change.blocked))


def _check_deletes(changes: tuple[Change, ...], desired: Mapping[ResourceId, Resource], options: Options) -> None:
    deletes = [c for c in changes if c.destroys and not c.blocked and not c.interrupted]
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
    """What is referred to comes first; of what leaves, or is replaced, who refers to it no more comes first. Raises
    PlanError for a cycle."""
    needs: dict[ResourceId, set[ResourceId]] = {id_: set() for id_ in changes}
    released: dict[ResourceId, set[ResourceId]] = {}
    for id_, change in changes.items():
        for target in _beyond(_targets(BY_WORD[id_.kind], desired.get(id_), inventory, id_, change), changes, desired):
            if target not in changes or target == id_:
                continue
            if changes[target].action in LEAVES:
                needs[target].add(id_)
            elif changes[target].action is Action.REPLACE and target not in reachable(desired.get(id_), desired):
                if change.action is not Action.FORGET:
                    released.setdefault(target, set()).add(id_)
            elif change.action not in LEAVES:
                needs[id_].add(target)
    for first, then in remade.in_turn(changes):
        needs[then].add(first)
    for id_, change in changes.items():
        if (old := change.copies) and old in changes and changes[old].action in LEAVES:
            needs[old].add(id_)
    try:
        with_released = {id_: found | released.get(id_, set()) for id_, found in needs.items()}
        sequence, needs = _sequence(with_released), with_released
    except CycleError:
        # such as two machines that exchange what is replaced: whoever comes too early is refused by the gate
        try:
            sequence = _sequence(needs)
        except CycleError as error:
            circle = " -> ".join(map(str, error.args[1]))
            raise PlanError(f"resources refer to each other in a circle: {circle}") from error
    return tuple(replace(changes[i], needs=frozenset(needs[i])) if needs[i] else changes[i] for i in sequence)


def _sequence(needs: Mapping[ResourceId, set[ResourceId]]) -> list[ResourceId]:
    """Raises CycleError."""
    return list(TopologicalSorter({k: sorted(v) for k, v in sorted(needs.items())}).static_order())


def _beyond(
    targets: Iterable[ResourceId], changes: Mapping[ResourceId, Change], desired: Mapping[ResourceId, Resource]
) -> set[ResourceId]:
    """These, and what is behind those that are not touched: a machine waits for what its layer lies on."""
    found: set[ResourceId] = set()
    todo = [*targets]
    while todo:
        target = todo.pop()
        if target not in found:
            found.add(target)
            if (change := changes.get(target)) and change.agrees and target in desired:
                todo += [ref.target for ref in references(desired[target].spec)]
    return found


def _targets(
    kind: Kind, resource: Resource | None, inventory: Inventory, id_: ResourceId, change: Change
) -> set[ResourceId]:
    """Everything that this resource refers to: as wanted, as applied before, and as it is on the host. What agrees is
    not touched, so that nothing waits for it."""
    if change.agrees:
        return set()
    specs = [resource.spec if resource else None, *applied_specs(kind, inventory.get(id_), resource)]
    if change.observed is not None:
        specs.append(change.observed.referring)
    return {ref.target for spec in specs for ref in references(spec)}
