"""Carrying out a plan.

What is about to be owned is recorded before anything is done, so that a run which is cut off anywhere leaks nothing.
Independent resources go in parallel, one worker each; a failure stops only what needs it.
"""

from __future__ import annotations

import enum
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from queue import Empty, SimpleQueue

from kvmstate.apply.gate import Gate
from kvmstate.apply.inventory import Store
from kvmstate.apply.rollout import Restarts
from kvmstate.apply.still import Gone, is_untouched, still
from kvmstate.errors import ConnectionFailed, HostError, KvmstateError, Locked, NotLive, Reverted
from kvmstate.host import Host, faults, identity
from kvmstate.host.access import explained
from kvmstate.kind import Context
from kvmstate.kind.steps import Precaution
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.model.uri import HIDDEN
from kvmstate.plan import pending, remained
from kvmstate.plan.compare import applied_specs
from kvmstate.xmlbind import secrets, secrets_in_xml

SIGNALS_SECONDS = 0.5
# After these nothing more can be written, not even to the record.
_LOST = {ConnectionFailed: "no connection", Locked: "no lock"}
MAKES = (Action.CREATE, Action.REPLACE)


class EventKind(enum.Enum):
    STARTED = "started"
    STEP = "step"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Event:
    """Something that happened to one change; `done` of `total` bytes for PROGRESS."""

    kind: EventKind
    change: Change
    text: str = ""
    hint: str = ""
    done: int = 0
    total: int = 0


@dataclass
class Result:
    """What became of each change."""

    done: list[Change] = field(default_factory=list)
    failed: list[tuple[Change, KvmstateError]] = field(default_factory=list)
    skipped: list[tuple[Change, str]] = field(default_factory=list)
    # what is written, and waits for the next start
    waiting: list[tuple[Change, NotLive]] = field(default_factory=list)
    # what is done and differs all the same: libvirt took it, and did not keep it
    left: tuple[Change, ...] = ()
    # in a word, of what was looked at again
    states: dict[ResourceId, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.failed and not self.skipped


def apply_plan(
    plan: Plan,
    host: Host,
    store: Store,
    emit: Callable[[Event], None] = lambda event: None,
    parallelism: int = 10,
    stop: threading.Event | None = None,
    prepare: Callable[[Change], Precaution] = lambda change: Precaution(),
    restarts: Restarts | None = None,
) -> Result:
    """Carry out what the plan has to do. Setting `stop` lets running resources finish and starts no more. `prepare`
    says what goes before and after a change's own steps, and what becomes of one that fails; `restarts` which machines
    are restarted when.

    So does the loss of the connection, or of the lock: what is recorded on the host by then is what the next run goes
    on from.
    """
    stop, restarts = stop or threading.Event(), restarts or Restarts()
    emit = _Teller(emit)
    lost = ""
    result = Result()
    todo = {change.id: change for change in plan.todo}
    store.take_back(change.id for change in todo.values() if change.returns)
    owned, gate = store.inventory, Gate(plan, host, store)
    before = {change.id: owned.get(change.moved_from or change.id) for change in todo.values()}
    store.put(*(_begun(c, c.desired, before[c.id]) for c in todo.values() if c.desired))
    note_agreement(plan, store, host)
    broken: dict[ResourceId, str] = {}
    running: dict[Future[list[NotLive]], Change] = {}
    finished: SimpleQueue[Future[list[NotLive]]] = SimpleQueue()
    order = TopologicalSorter({change.id: change.needs & todo.keys() for change in todo.values()})
    order.prepare()

    def cared(change: Change) -> Precaution:
        care = prepare(change)
        return replace(care, after=(*restarts.after(change, host), *care.after))

    ready: deque[ResourceId] = deque()
    with ThreadPoolExecutor(parallelism, thread_name_prefix="apply") as pool:
        while order.is_active():
            ready.extend(order.get_ready())
            # never more than there are workers: what has been handed over cannot be stopped
            while len(running) < parallelism and (id_ := restarts.next(ready, idle=not running)):
                ready.remove(id_)
                change = todo[id_]
                cause = next((id_ for id_ in sorted(change.needs) if id_ in broken), None)
                refusal = f"{cause} {broken[cause]}" if cause else restarts.refusal(id_)
                if refusal or lost or stop.is_set():
                    reason = refusal or lost or "interrupted"
                    broken[change.id] = "was skipped"
                    result.skipped.append((change, reason))
                    if not lost:
                        _undone(change, before[change.id], store)
                    emit(Event(EventKind.SKIPPED, change, reason))
                    order.done(id_)
                    restarts.end(id_)
                else:
                    restarts.begin(id_)
                    args = (change, Context(host, plan.project, gate), store, before[id_], emit, cared)
                    future = pool.submit(_carry_out, *args)
                    running[future] = change
                    future.add_done_callback(finished.put)
            for future in _some(finished) if running else ():
                change = running.pop(future)
                order.done(change.id)
                error = future.exception()
                restarts.end(change.id, failed=error is not None)
                if error is None:
                    result.done.append(change)
                    result.waiting += [(change, late) for late in future.result()]
                    emit(Event(EventKind.DONE, change))
                elif isinstance(error, KvmstateError):
                    broken[change.id] = "failed"
                    _hide_secrets(error, change)
                    lost = lost or _LOST.get(type(error), "")
                    result.failed.append((change, error))
                    emit(Event(EventKind.FAILED, change, error.message, error.hint))
                else:
                    raise error
    if not lost:
        store.flush()
    if emit.failure:
        raise emit.failure
    return result


def _hide_secrets(error: KvmstateError, change: Change) -> None:
    """libvirt and QEMU repeat what they were told, such as an argument that they do not know."""
    found = secrets(change.desired.written, BY_WORD[change.id.kind].sections) if change.desired else set()
    if change.observed:
        found |= secrets_in_xml(change.observed.xml)
    for secret in sorted(found, key=len, reverse=True):
        # not what is too short to be told from other words, nor the name of an option
        if len(secret) > 3 and not re.fullmatch(r"--?[a-z_-]+", secret):
            error.message, error.hint = (text.replace(secret, HIDDEN) for text in (error.message, error.hint))


class _Teller:
    """Tells what happens. When that fails, the work goes on untold; what cannot be written is nobody's fault, and any
    other failure is raised when all is done."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self.failure: Exception | None = None

    def __call__(self, event: Event) -> None:
        try:
            self._emit(event)
        except OSError:
            pass
        except Exception as error:
            self.failure = self.failure or error


def _some(finished: SimpleQueue[Future[list[NotLive]]]) -> Iterator[Future[list[NotLive]]]:
    """What has finished by now; waits for the first, but not for ever: a signal that comes just before the wait is
    handled after it."""
    with suppress(Empty):
        yield finished.get(timeout=SIGNALS_SECONDS)
        while True:
            yield finished.get_nowait()


def note_agreement(plan: Plan, store: Store, host: Host) -> None:
    """Record of what needs no change that it needs none, and what its manifest says: its lifecycle or spelling may be
    new. As long as both stay as they are, no later plan has to compare them."""
    entries = store.inventory.entries
    for change in plan.changes:
        if change.action is not Action.NOOP or change.suspended:
            continue
        if change.desired and change.observed and (entry := entries.get(change.id)):
            store.put(
                replace(
                    entry,
                    uuid=_uuid(change, entry),
                    specs=(change.desired.written,),
                    lifecycle=change.lifecycle,
                    digest=change.digest,
                    applied=remained.still(entry, change, host.sealing.hide),
                    pending=pending.still(entry, change),
                    incomplete=False,
                    confirmed=False,
                )
            )
    store.flush()


def _carry_out(
    change: Change,
    at: Context,
    store: Store,
    before: Entry | None,
    emit: Callable[[Event], None],
    prepare: Callable[[Change], Precaution],
) -> list[NotLive]:
    """All steps of one resource, in order; what of it waits for the next start. Raises KvmstateError."""
    emit(Event(EventKind.STARTED, change))
    waits: list[NotLive] = []
    if change.action is Action.FORGET:
        (store.orphan if change.orphans else store.drop)(change.id)
        return waits
    host = at.host
    try:
        change = still(change, host, before, at.project)
        ops = BY_WORD[change.id.kind].ops
        make = ops.steps if change.action is not Action.ADOPT else ops.adopted
        care = prepare(change)
        steps = [*care.before, *make(change, at), *care.after]
    except Gone:
        store.drop(change.id)
        return waits
    except ConnectionFailed:
        raise
    except HostError:
        # nothing has been done
        _undone(change, before, store)
        raise
    for number, step in enumerate(steps):
        store.guard()
        emit(Event(EventKind.STEP, change, step.describe))
        try:
            with faults():
                step.run(lambda done, total: emit(Event(EventKind.PROGRESS, change, step.describe, "", done, total)))  # noqa: B023
        except ConnectionFailed:
            raise
        except NotLive as error:
            _hide_secrets(error, change)
            emit(Event(EventKind.STEP, change, f"left to the next start: {', '.join(error.places)}: {error.message}"))
            waits.append(error)
        except HostError as error:
            first = all(earlier.looks for earlier in steps[:number])
            made = change.action in MAKES and not _has_begun(change, store)
            if first and (made or (change.action is Action.UPDATE and is_untouched(change, host))):
                # nothing was made, changed or deleted, and what stands in the way is not ours
                _undone(change, before, store)
            told = explained(error, host)
            if care.undo and number >= len(care.before):
                store.guard()
                told = care.undo(told, lambda text: emit(Event(EventKind.STEP, change, text)))
            if isinstance(told, Reverted):
                _undone(change, before, store)
            raise told from error
        finally:
            host.uses.forget(change.id)
    if change.action is Action.DELETE:
        (store.orphan if change.orphans else store.drop)(change.id)
    elif change.desired:
        # what is suspended is not applied, but it may be adopted again
        known = store.get(change.id)
        waiting = pending.places(change, before, lambda: applied_specs(BY_WORD[change.id.kind], before))
        entry = Entry(
            change.id,
            _uuid(change, known),
            (change.desired.written,),
            change.lifecycle,
            suspended=before.suspended if before else "",
            applied=remained.digests(change, host.sealing.hide),
            pending=(*waiting, *(place for late in waits for place in late.places)),
            built=known is not None and known.built,
        )
        store.put(entry)
        if change.moved_from:
            store.drop(change.moved_from)
        if change.copies and (left := store.get(change.copies)):
            store.put(replace(left, moved_to=str(change.id), digest=""))
        if change.copies or (change.action in MAKES and change.spec.filling()):
            # before anybody uses it: a volume whose upload is not known to be whole is created again
            store.flush()
    return waits


def _uuid(change: Change, known: Entry | None) -> str:
    """Which object it is. Of a volume that is known when it has been made, or looked at, and not with every plan."""
    recorded = known.uuid if known else ""
    if not BY_WORD[change.id.kind].has_uuid and change.action in MAKES:
        return recorded or change.uuid
    return identity.told(recorded, change.uuid)


def _has_begun(change: Change, store: Store) -> bool:
    """Whether the deed of a replacement has begun: what there was may be gone."""
    entry = store.get(change.id)
    return change.action is Action.REPLACE and entry is not None and entry.incomplete


def _begun(change: Change, desired: Resource, entry: Entry | None) -> Entry:
    spec, made = desired.written, change.action is Action.CREATE
    if entry is None:
        copied = str(change.copies or "")
        return Entry(change.id, change.uuid, (spec,), change.lifecycle, incomplete=made, copied_from=copied)
    return replace(
        # what it agreed on last is not known any more, also when a run that is cut off here leaves it looking the same
        entry.beginning(spec),
        digest="",
        id=change.id,
        uuid=_uuid(change, entry),
        # a replacement begins with its first deed: the gate records that; what is adopted is whole
        incomplete=made or (entry.incomplete and change.action is not Action.ADOPT),
        copied_from=str(change.copies or entry.copied_from),
    )


def _undone(change: Change, before: Entry | None, store: Store) -> None:
    # of what has cut the connection the record cannot tell that: the next plan finds all as it was
    with suppress(ConnectionFailed):
        if before is not None:
            store.put(before)
        if change.desired is not None and (before is None or before.id != change.id):
            store.drop(change.id)
