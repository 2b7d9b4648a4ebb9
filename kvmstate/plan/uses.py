"""What is used on the host is not taken away, whoever uses it: asked when a plan is made, and before each deed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host
from kvmstate.kind import references
from kvmstate.kinds import BY_WORD, parent_of
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan import remade

if TYPE_CHECKING:
    from kvmstate.host.named import User


def users(host: Host, change: Change) -> set[User]:
    """Who would miss what a change takes away, as of now. Raises HostError when that cannot be told."""
    return BY_WORD[change.id.kind].ops.users(host, change)


def keep_used(
    host: Host,
    changes: dict[ResourceId, Change],
    desired: Mapping[ResourceId, Resource],
    holds_own: Callable[[ResourceId], bool] = lambda id_: True,
) -> None:
    """Block what would be taken from somebody who stays. One who goes with the same plan, or no longer refers to it
    after the plan, is not a reason: that change comes first. What holds nothing of its own (`holds_own`), and only
    snapshots need, is left until they are gone: there is nothing for people to do."""
    taken = {id_: c for id_, c in changes.items() if c.destroys and not c.blocked}
    found: dict[ResourceId, set[User]] = {}
    for id_, change in taken.items():
        try:
            changes[id_], found[id_] = remade.released(change, users(host, change), changes)
            if not changes[id_].destroys or changes[id_].blocked:
                del found[id_]
        except ConnectionFailed:
            raise
        except HostError as error:
            changes[id_] = replace(change, blocked=error.message, hint=error.hint)
    while held := _held(found, changes, desired):
        for id_, stay in held.items():
            deleted = changes[id_].action is Action.DELETE
            if deleted and all(user.snapshot for user in stay) and not holds_own(id_):
                reason = f"removed from the manifests; it stays as long as {stay[0]} needs it"
                changes[id_] = replace(changes[id_], action=Action.NOOP, reason=reason, orphans=False)
                del found[id_]
                continue
            why = f"in use by {stay[0]}", "detach it there, or delete what uses it, first"
            if changes[id_].action is Action.REPLACE:
                why = BY_WORD[id_.kind].ops.in_use(stay) or why
            changes[id_] = replace(changes[id_], blocked=why[0], hint=why[1])
            del found[id_]


def _held(
    found: Mapping[ResourceId, set[User]],
    changes: Mapping[ResourceId, Change],
    desired: Mapping[ResourceId, Resource],
) -> dict[ResourceId, list[User]]:
    held = {}
    for id_, using in found.items():
        staying = sorted(user for user in using if not _leaves(user, id_, changes, desired))
        if staying and not changes[id_].blocked:
            held[id_] = staying
    return held


def _leaves(
    user: User, used: ResourceId, changes: Mapping[ResourceId, Change], desired: Mapping[ResourceId, Resource]
) -> bool:
    """Whether the user is gone, or uses it no more, when the plan comes to it."""
    change = changes.get(user.id) or next((c for c in changes.values() if c.moved_from == user.id), None)
    if change is None or change.blocked or change.suspended:
        return False
    if change.action is Action.DELETE:
        return True
    if user.snapshot or change.spec is None or change.action is Action.NOOP:
        return False
    if change.running and not change.restarts and change.waiting:
        # what runs releases it with its next start only
        return False
    if any(used in (ref.target, parent_of(ref.target)) for ref in references(change.spec)):
        return False
    # a new disk that is a layer over what is replaced comes after that, and would come before its user lets go
    return changes[used].action is not Action.REPLACE or used not in reachable(change.desired, desired)


def reachable(resource: Resource | None, desired: Mapping[ResourceId, Resource]) -> set[ResourceId]:
    """All that a wanted resource refers to, by way of others too."""
    found: set[ResourceId] = set()
    todo = [resource] if resource else []
    while todo:
        for target in {ref.target for ref in references(todo.pop().spec)} - found:
            found.add(target)
            if below := desired.get(target):
                todo.append(below)
    return found


def with_moved_pools(changes: dict[ResourceId, Change]) -> None:
    """A pool that is replaced leaves its volumes behind: each is shown as replaced, and its lifecycle is asked."""
    for pool_id, pool in list(changes.items()):
        if pool.action is not Action.REPLACE or pool.blocked:
            continue
        inside = [c for id_, c in changes.items() if parent_of(id_) == pool_id]
        kept = [c.id for c in inside if c.lifecycle.prevent_destroy or c.lifecycle.replace != "allow"]
        if kept:
            changes[pool_id] = replace(
                pool,
                blocked=f"replacing it would leave {kept[0]} behind, whose lifecycle does not allow that",
                hint="declare the new folder as another pool; or let the volumes in it say replace: allow",
            )
            continue
        for change in inside:
            if change.desired and change.observed and not change.blocked:
                spec = BY_WORD[change.id.kind].complete(change.desired, None, "")
                reason = f"{pool_id} is replaced; its file stays where it is"
                changes[change.id] = replace(change, action=Action.REPLACE, spec=spec, reason=reason)
