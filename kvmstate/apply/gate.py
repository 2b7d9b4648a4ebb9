"""The one gate before what cannot be undone: every deletion, replacement, re-upload, growth and shrinking asks here.

It asks again what the plan has asked, of the host as it is right before the call: whether the plan that was shown has
it, whether the lifecycle allows it, whether the object is the one that the record says, whether another project owns
it, and who uses it. "Interrupted" is recorded here, when the deed begins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from kvmstate.apply.inventory import Store
from kvmstate.apply.owners import Owners
from kvmstate.errors import HostError
from kvmstate.host import Host
from kvmstate.host.identity import UNKNOWN, same
from kvmstate.host.objects import Handle
from kvmstate.host.permit import Permit
from kvmstate.host.resting import busy
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import ResourceId
from kvmstate.plan import remade
from kvmstate.plan.uses import users

_NOT_TOLD = "whether it is the object that this project's record means cannot be told"
_TOLD_BY = "the storage's own tool tells it, which is missing on the host or does not answer: rbd (ceph-common), zfs"


def only(made: str, told: Callable[[Handle], str]) -> Permit:
    """For the very object that a run has made, and nobody has used: to fill it, or to delete it."""

    def check(thing: Handle) -> None:
        if same(made, seen := told(thing)) is False or not made:
            why = f"it is {seen}, and {made or 'nothing'} is on record"
            raise HostError(f"{thing.type} {thing.name} is not the one that was made for this move", why)

    return Permit(check)


def leaving(uuid: str, there: Callable[[], bool]) -> Permit:
    """To undefine what another host has by now."""

    def check(thing: Handle) -> None:
        if thing.uuid != uuid or thing.active or not there():
            raise HostError(f"{thing.type} {thing.name} stays: the other host does not have it, or it runs here", "")

    return Permit(check)


class Gate:
    """For one run of one plan; see `kvmstate.kind.Gate`."""

    def __init__(self, plan: Plan, host: Host, store: Store) -> None:
        self._host, self._store = host, store
        self._owners = Owners(host, plan.project)
        self._shown = {change.id for change in plan.todo if change.destroys}
        self._builds = {change.id for change in plan.todo if change.builds}
        self._shrinks = {change.id for change in plan.todo if change.shrinks}
        self._made: dict[object, str] = {}
        self._empty: set[ResourceId] = set()
        if self._shown or self._shrinks:
            host.uses.hear()

    def removal(self, change: Change) -> Permit:
        # a machine that is shut down for it may run yet
        self._allowed(change, frozenset(filter(None, [change.stops])))

        def check(thing: Handle) -> None:
            self._allowed(change)
            self._same(change, thing)
            if change.action is Action.REPLACE and (entry := self._store.get(change.id)):
                # from here on it is not what it was: should this run die, the next one creates it again
                uuid = entry.uuid if BY_WORD[change.id.kind].has_uuid else ""
                self._store.put(replace(entry, incomplete=True, uuid=uuid))
                self._store.flush()

        return Permit(check)

    def renaming(self, change: Change) -> Permit:
        return Permit(lambda thing: self._same(change, thing))

    def growing(self, change: Change) -> Permit:
        # where nobody can tell, growing another volume of the name loses nothing
        return Permit(lambda thing: self._same(change, thing, unknown=True))

    def shrinking(self, change: Change) -> Permit:
        def check(thing: Handle) -> None:
            if change.id not in self._shrinks:
                raise HostError(f"the plan does not make {change.id} smaller", "plan again")
            if change.lifecycle.prevent_destroy:
                raise HostError(f"preventDestroy protects {change.id}", "take preventDestroy out first")
            if owner := self._owners.of_removed(change):
                raise HostError(f"{change.id} does not shrink: {owner}", "that project has to release it first")
            if found := busy(self._host, users(self._host, change)):
                raise HostError(f"{change.id} is in use by {found[0]}", "shut it down first")
            self._same(change, thing)

        return Permit(check)

    def filling(self, change: Change) -> Permit:
        def check(thing: Handle) -> None:
            if (made := self._made.get(change.id)) is None or same(made, self._told(change, thing)) is False:
                raise HostError(f"{change.id} is not the volume that was just made", "plan again")

        return Permit(check)

    def building(self, change: Change) -> Permit:
        def check(thing: Handle) -> None:
            if not change.builds or change.id not in self._builds:
                raise HostError(f"the plan does not build {change.id}", "plan again")
            if change.builds == "overwrite" and change.lifecycle.replace != "allow":
                raise HostError(f"lifecycle.replace: never keeps what {change.id} is on", "let it say replace: allow")
            if thing.uuid != change.uuid:
                raise HostError(f"{change.id} is not the object that was just made", "plan again")
            self._mark(change, True)

        return Permit(check)

    def unbuilt(self, change: Change) -> None:
        self._mark(change, False)

    def _mark(self, change: Change, built: bool) -> None:
        if entry := self._store.get(change.id):
            self._store.put(replace(entry, built=built))
            self._store.flush()

    def unbuilding(self, change: Change) -> Permit:
        self._allowed(change)

        def check(thing: Handle) -> None:
            self._allowed(change)
            self._same(change, thing)
            entry = self._store.get(change.id)
            if change.lifecycle.storage != "delete" or entry is None or not entry.built:
                raise HostError(f"the storage of {change.id} is kept", "kvmstate deletes what it has built itself only")

        return Permit(check)

    def made(self, change: Change, identity: str) -> None:
        self._made[change.id] = identity
        if not (change.copies or change.spec.filling()):
            self._empty.add(change.id)
        if entry := self._store.get(change.id):
            self._store.put(replace(entry, uuid=identity))
            if change.copies or change.spec.filling():
                # before anything is put into it: an upload that is cut off is known by this
                self._store.flush()

    def made_empty(self, id_: ResourceId) -> bool:
        return id_ in self._empty

    def _allowed(self, change: Change, stopping: Collection[ResourceId] = ()) -> None:
        """Raises HostError. Nothing is known yet of the object itself."""
        kind, lifecycle = BY_WORD[change.id.kind], change.lifecycle
        if change.id not in self._shown:
            raise HostError(f"the plan does not delete {change.id}", "plan again")
        if change.id.name in kind.says.given:
            raise HostError(f"{change.id} comes with libvirt", "it stays as it is")
        if lifecycle.prevent_destroy:
            raise HostError(f"preventDestroy protects {change.id}", "take preventDestroy out first")
        if change.action is Action.DELETE and kind.deletion(lifecycle.deletion) != "delete":
            raise HostError(f"lifecycle.deletion: orphan keeps {change.id}", "let its manifest say deletion: delete")
        if change.action is Action.REPLACE and lifecycle.replace != "allow" and not change.interrupted:
            raise HostError(f"lifecycle.replace: never keeps {change.id}", "let its manifest say replace: allow")
        if owner := self._owners.of_removed(change):
            raise HostError(f"{change.id} is not deleted: {owner}", "that project has to release it first")
        found = users(self._host, change)
        own = {user for user in found if user.id == remade.by(change)}
        staying = {user for user in busy(self._host, own) if user.id not in stopping or user.snapshot}
        if found := (found - own) | staying:
            raise HostError(f"{change.id} is in use by {min(found)}", "detach it there first")

    def _same(self, change: Change, thing: Handle, unknown: bool = False) -> None:
        """Raises HostError for another object of this name; when nobody can tell, unless `unknown` ones are meant."""
        entry = self._store.get(change.moved_from or change.id)
        told, recorded = self._told(change, thing), entry.uuid if entry else ""
        seen = change.observed.uuid if change.observed else ""
        matches = {same(recorded or told, told), seen == UNKNOWN or same(seen, told)}
        if False in matches:
            raise HostError(f"{change.id} is not the object it was when the plan was made", "plan again")
        if None in matches and not unknown:
            far = told == UNKNOWN
            why = f"{change.id} is left alone: {_NOT_TOLD}{' over this connection' if far else ''}"
            raise HostError(why, "run kvmstate on the host, or reach it by qemu+ssh://" if far else _TOLD_BY)

    def _told(self, change: Change, thing: Handle) -> str:
        return BY_WORD[change.id.kind].ops.identity(self._host, change.id, thing)
