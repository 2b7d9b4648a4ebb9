"""Handing what one project owns over to another, on one host, so that each object has one owner at every moment.

There are two records, and no write that changes both. So the new owner's record gets the entry first, which says from
whom it comes, and does not count while the old owner's record has it as its own. The one write that marks it there as
handed over changes the owner. After that both marks may go, the new owner's first. Both projects' locks are held; what
is cut off is settled by whoever reads the records next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kvmstate.apply.gate import Gate
from kvmstate.apply.inventory import Store
from kvmstate.errors import UsageError
from kvmstate.host import Host
from kvmstate.kind import Context
from kvmstate.kind.stamps import stamped_by
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.plan import Plan
from kvmstate.plan.compare import last_applied
from kvmstate.plan.planner import observe


def transfer(source: Store, target: Store, entries: Sequence[Entry], orphans: Sequence[Entry] = ()) -> None:
    """Give entries to another project, with what the old owner has released, and the new one may take up again in its
    place: `orphans`.

    Raises UsageError when the new owner has one of these addresses on record already, or one is on its way to another
    host, HostError and Locked.
    """
    known = target.inventory
    if clash := next((entry.id for entry in entries if known.get(entry.id)), None):
        raise UsageError(
            f"project {target.project} has {clash} on record already", "`kvmstate status` there says what it is"
        )
    if moves := next((e for e in entries if e.migration and not e.left), None):
        raise UsageError(f"{moves.id} is suspended {moves.suspended}", "wait until it has moved to the other host")
    if source.recorded and not known.entries and len(entries) == len(source.inventory.entries):
        # a project that is renamed
        target.identity = source.recorded
    target.put(*(replace(entry, handed_from=source.project) for entry in entries))
    target.remember(orphans)
    target.flush()
    source.hand([entry.id for entry in entries], target.project)
    source.forget(entry.id for entry in orphans)
    source.flush()
    target.put(*entries)
    target.flush()
    source.let_go(target.project)
    source.flush()


def stamp(host: Host, entries: Iterable[Entry], target: Store) -> None:
    """Say in the <metadata> of domains and networks whose they are now. Raises HostError and Locked."""
    stamped = [entry for entry in entries if BY_WORD[entry.id.kind].stamped]
    applied = {entry.id: resource for entry in stamped if (resource := last_applied(entry))}
    changes = []
    for id_, seen in observe(host, applied).items():
        spec, lifecycle = applied[id_].spec, applied[id_].lifecycle
        # what was imported is kept as it was, without a stamp, unless it has got one by now
        bare = spec.model_copy(update={"remainder": None}) if stamped_by(seen.xml) else spec
        changes.append(Change(id_, Action.ADOPT, spec=bare, observed=seen, lifecycle=lifecycle, uuid=seen.uuid))
    gate = Gate(Plan(target.project, host.uri, tuple(changes)), host, target)
    for change in changes:
        target.guard()
        for step in BY_WORD[change.id.kind].ops.adopted(change, Context(host, target.project, gate)):
            step.run(lambda done, total: None)
