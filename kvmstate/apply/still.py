"""Looking again at an object right before it is changed: people, other tools and guests go on while a plan waits."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from kvmstate.errors import HostError
from kvmstate.host import Host
from kvmstate.host.identity import same
from kvmstate.kind import Kind
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.inventory import Entry
from kvmstate.plan.compare import compare
from kvmstate.plan.planner import look
from kvmstate.plan.unseal import unsealed
from kvmstate.xmlbind import holds_secrets


class Gone(HostError):
    """What was to be deleted is not there any more."""

    def __init__(self, change: Change) -> None:
        super().__init__(f"{change.id} no longer exists on the host", "")


def still(change: Change, host: Host, entry: Entry | None, project: str) -> Change:
    """The change, as the object is now. Raises Gone, or HostError where more would have to be changed than the plan has
    shown: what is written over somebody else's change is never decided by what was read before it."""
    if (
        change.observed is None
        or change.moved_from
        or change.action
        not in (
            Action.UPDATE,
            Action.DELETE,
            Action.REPLACE,
        )
    ):
        return change
    found, unseen = look(host, [change.id])
    if change.id in unseen:
        raise HostError(
            f"{change.id} cannot be seen any more: its pool is not active", "start its pool, then plan again"
        )
    seen = found.get(change.id)
    if seen is None:
        if change.action is Action.DELETE:
            raise Gone(change)
        if change.action is Action.REPLACE:
            # its pool has been replaced before it
            return change
        raise HostError(f"{change.id} has gone since the plan was made", "plan again")
    if seen.uuid != change.observed.uuid and not same(change.observed.uuid, seen.uuid):
        raise HostError(f"{change.id} is not the object it was when the plan was made", "plan again")
    if seen.steady == change.observed.steady:
        return change
    if change.remade and seen.steady == replace(change.observed, active_xml=None, calls=seen.calls).steady:
        # it was shut down for this
        return replace(change, observed=seen, active_fields=())
    # what paths mean may have changed with it
    host.forget()
    kind = BY_WORD[change.id.kind]
    now = replace(change, observed=seen)
    if change.desired:
        resource, entry = unsealed(host, change.desired, seen, entry)
        now = compare(kind, resource, seen, entry, project, change.uuid, hide=host.sealing.match)
    now = kind.ops.checked(host, now, entry)
    shown = {_said(kind, f) for f in (*change.fields, *change.active_fields)}
    more = [f.where for f in (*now.fields, *now.active_fields) if _said(kind, f) not in shown]
    if now.blocked or more or now.action not in (change.action, Action.NOOP):
        raise HostError(
            f"{change.id} has changed since the plan was made: {now.blocked or ', '.join(dict.fromkeys(more))}",
            "nothing was changed; plan again",
        )
    return replace(now, action=change.action, needs=change.needs)


def _said(kind: Kind, field: FieldChange) -> tuple[tuple[str, ...], str, str]:
    """What a plan shows of a field. That its value is another one by now is not a reason to stop, except where it is
    somebody's decision, such as the file that a disk has."""
    return field.path, repr(field.new), repr(field.old) if field.path[0] in kind.decided else ""


def is_untouched(change: Change, host: Host) -> bool:
    """Whether the object is as it was before its first step failed, as far as anybody can see: not of secrets."""
    if change.observed is None or change.moved_from or holds_secrets(change.spec):
        return False
    with suppress(HostError):
        seen = look(host, [change.id])[0].get(change.id)
        return seen is not None and (seen.uuid, seen.steady) == (change.observed.uuid, change.observed.steady)
    return False
