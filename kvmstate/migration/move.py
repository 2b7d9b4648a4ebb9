"""A machine goes from one host to another: the sequence, and how it goes on after it was cut off.

    check → both records say that it moves → its copies are made → libvirt moves it → the source's record says that it
    has left → the source's definition goes → the target's record says that it has arrived

libvirt decides which host runs the guest, and that is looked at, never assumed: also an error of libvirt's may come
after the machine has moved. Until it has, everything is taken back; from then on everything goes forward. The source's
disks stay where they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace

from kvmstate.apply.gate import leaving
from kvmstate.errors import ConnectionFailed, HostError, KvmstateError, NotFound, PlanError, UsageError
from kvmstate.host import domains, migrations, pools, volumes
from kvmstate.host.hints import HOLDER
from kvmstate.host.migrations import Job, Place, Way
from kvmstate.host.objects import Domain
from kvmstate.kind import Fault
from kvmstate.migration import checks, record
from kvmstate.migration.record import Side, underway
from kvmstate.migration.storage import How, Storage, discard, identity
from kvmstate.model.inventory import ARRIVES, LEAVES, LEFT, Entry, Inventory, Migration
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan.compare import last_applied
from kvmstate.plan.known import known
from kvmstate.plan.planner import observe
from kvmstate.plan.unseal import recorded, unsealed
from kvmstate.xmlbind import is_sealed

# Seconds: between two looks; how long a move may make no progress before QEMU is asked to look for a cancel; how long
# a machine waits where it goes to before it counts as forgotten; how long libvirt may take to settle who has it; how
# long a daemon may take to take up its domains, each call waiting half a minute
_LOOK = 0.1
_STALLED = 10.0
_FORGOTTEN = 10.0
_SETTLES = 30.0
_TAKEN_UP = 120.0


@dataclass(frozen=True)
class Moved:
    """What has become of it: it `stays`, or has gone. `left` are the volumes on the host that it has left whose data
    was copied; `job` is what libvirt tells of the move."""

    stays: bool = False
    left: tuple[ResourceId, ...] = ()
    job: Job | None = None


@dataclass
class Move:
    """Of one machine. `declared` is what the manifests say. `say` is told each thing that is done, `progress` how far
    what takes time has come: bytes done and in all, and of what. `begun`: by this process, so that what libvirt makes
    of it has just happened."""

    source: Side
    target: Side
    name: str
    way: Way = field(default_factory=Way)
    copies: bool = False
    declared: Mapping[ResourceId, Resource] = field(default_factory=dict)
    say: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int, str], None] = lambda done, whole, what: None
    begun: bool = False
    # what libvirt told of it last, and since when
    _last: tuple[Job | None, float] = (None, 0.0)

    @property
    def id(self) -> ResourceId:
        return ResourceId(Domain.type, self.name)

    def faults(self) -> list[Fault]:
        """Why it cannot be moved now; nothing is changed. Raises UsageError, HostError."""
        self._check_hosts()
        if self._is_there():
            raise UsageError(f"{self.id} is on {self.target.host.uri} already", self.way_back)
        entry = self._entry()
        return [] if entry.migration else self._look(self._domain(entry))[1]

    def run(self) -> Moved:
        """Move it, or finish a move that was cut off. Raises PlanError for what would not work, with all of it;
        HostError, Locked, and KeyboardInterrupt when it was cancelled: it is where it was then, or the error says that
        nobody can tell. What `passes` of these is for `settled`."""
        self._check_hosts()
        if self._is_there():
            return Moved()
        entry = self._entry()
        if entry.left:
            return self._finish(entry)
        with self._taken_back():
            if entry.migration:
                self.say(f"going on with the move of {self.id} to {self.target.host.uri}")
                if self._has_moved(entry):
                    return self._finish(entry)
                self._go_on_here(entry)
                self._discard(entry)
            domain = self._domain(entry)
            storage, faults = self._look(domain)
            if faults:
                raise PlanError(*_told(faults))
            self.begun = True
            self._begin(entry, domain, storage)
            self._send(domain, storage)
        return self._finish(self._entry())

    def undo(self, ending: bool = False) -> Moved:
        """Take back what was begun; where the machine has moved by now, that is finished. With `ending` a move that
        goes on, as libvirt does when kvmstate was killed, is ended; else it is waited for."""
        self._check_hosts()
        if self._is_there():
            return Moved()
        entry = self._entry()
        if entry.migration is None:
            return Moved(stays=True)
        if ending and not entry.left and (here := self._here(entry).domain):
            self._abort(here)
        if entry.left or self._has_moved(entry):
            return self._finish(entry)
        self._take_back(entry)
        return Moved(stays=True)

    @property
    def way_back(self) -> str:
        back = f"`kvmstate vm migrate {self.name} {self.source.host.uri} -c {self.target.host.uri}`"
        return f"{back}, with the same options, moves it back, once the copies that it left there are deleted"

    def _check_hosts(self) -> None:
        if self.source.host.identity == self.target.host.identity:
            raise UsageError(f"{self.target.host.uri} is the host that {self.id} is on", "name another one")

    def _is_there(self) -> bool:
        """Whether it has been moved before."""
        entry, there = self.source.read().get(self.id), self.target.read().get(self.id)
        if there is None or there.migration:
            return False
        return entry is None or (entry.left and self._here(entry).domain is None)

    def _entry(self) -> Entry:
        """What is on record where it leaves."""
        inventory, uri = self.source.read(), self.source.host.uri
        entry = inventory.get(self.id)
        if entry is None:
            hint = "`kvmstate status` lists what it owns; `virsh migrate` moves what is nobody's"
            raise UsageError(f"project {inventory.project} owns no {self.id} on {uri}", hint)
        if mark := entry.migration:
            if mark.role == ARRIVES:
                hint = f"finish that: `kvmstate vm migrate {self.name} {uri} -c {mark.uri}`"
                raise UsageError(f"{self.id} is being moved here from {mark.uri}", hint)
            if mark.host != self.target.host.identity:
                has = "has been" if entry.left else "is being"
                raise UsageError(f"{self.id} {has} moved to {mark.uri}", "name that host, or the one that it is on")
        elif entry.suspended:
            raise UsageError(f"{self.id} is suspended {entry.suspended}", f"kvmstate resume {self.id.typed}")
        elif entry.incomplete:
            raise UsageError(f"{self.id} is not whole", "apply first")
        return entry

    def _domain(self, entry: Entry) -> Domain:
        domain = domains.find(self.source.host.connection, self.name)
        if domain.uuid != entry.uuid:
            raise HostError(f"{self.id} is not the object that this project's record means", "see `kvmstate plan`")
        if not domain.persistent:
            raise HostError(f"{self.id} is not defined any more, and goes with its next stop", "apply first")
        return domain

    def _look(self, domain: Domain) -> tuple[Storage, list[Fault]]:
        source, target = self.source.host, self.target.host
        owned, there = self.source.read(), self.target.read()
        source.know(known({}, owned))
        live = domains.state(domain) != "stopped"
        running = domains.xml(domain, inactive=False) if live else ""
        storage = Storage(source, target, running, domains.xml(domain))
        faults = [*checks.ways(self.way, self.copies)]
        faults += checks.machine(source, target, domain, live)
        faults += storage.ways(self.copies, {id_ for id_, each in there.entries.items() if each.left})
        for id_, how in storage.moved.items():
            faults += self._record_faults(id_, how, owned, there)
        return storage, faults

    def _record_faults(self, id_: ResourceId, how: How, owned: Inventory, there: Inventory) -> Iterator[Fault]:
        its, taken = owned.get(id_), there.get(id_)
        others = how is not How.SEEN and self._others(id_)
        if others:
            yield Fault((), f"{id_} is {others}'s as well, which does not move", "copy it by hand, under another name")
        if its is None and how is not How.SEEN:
            yield Fault((), f"project {owned.project} does not own {id_}", "`kvmstate adopt`, with a manifest of it")
        if its and its.suspended and not its.migration:
            yield Fault((), f"{id_} is suspended {its.suspended}", f"kvmstate resume {id_.typed}")
        if taken and its and not taken.migration:
            yield Fault(
                (), f"project {owned.project} has {id_} on {self.target.host.uri} as well", "rename one of both"
            )

    def _others(self, id_: ResourceId) -> str:
        """Another machine that has this volume."""
        with suppress(NotFound):
            path = volumes.find(pools.find(self.source.host.connection, id_.name.partition("/")[0]), _own(id_)).path
            return min(self.source.host.uses.machines_with(id_, path) - {self.name}, default="")
        return ""

    def _begin(self, entry: Entry, domain: Domain, storage: Storage) -> None:
        """What other machines have as well stays the source's."""
        state, owned = domains.state(domain), self.source.read()
        mark = entry.migration or Migration(LEAVES, "", "", self.name, state, domain.autostart)
        pairs = [(entry, replace(mark, state=state))]
        for id_, how in storage.moved.items():
            if (its := owned.get(id_)) and not self._others(id_):
                pairs.append((its, replace(mark, copied=how is not How.SEEN)))
        record.begin(self.source, self.target, pairs, self._opened)
        if domain.autostart:
            # not to be started once more with its host, when it has moved
            domains.set_autostart(domain, False)

    def _opened(self, entry: Entry) -> Entry:
        """With its secrets in place of hashes, as far as manifests or the host have them."""
        host, resource, last = self.source.host, self.declared.get(entry.id), last_applied(entry)
        if not is_sealed(list(entry.specs)) or last is None:
            return entry
        if resource and entry.specs == (recorded(host, resource),):
            return replace(entry, specs=(resource.written,))
        return unsealed(host, resource or last, observe(host, [entry.id]).get(entry.id), entry)[1] or entry

    def _send(self, domain: Domain, storage: Storage) -> None:
        target, live = self.target, domains.state(domain) != "stopped"
        begun = {entry.id: entry for entry in underway(target.read(), self.name, ARRIVES)}
        for id_, how in storage.moved.items():
            if how is How.SEEN:
                continue
            made = storage.make(id_)
            with target.writable() as store:
                record.put(store, [replace(begun[id_], uuid=made)])
            if how is How.COPIED:
                self.say(f"copying {id_}")
                storage.fill(id_, made, lambda done, whole: self.progress(done, whole, str(id_)))  # noqa: B023
        way = self.way if self.way.peer_uri else replace(self.way, peer_uri=target.host.address)
        running, config = (self._changed(storage, domain, kind) for kind in (True, False))
        self.say(f"moving {self.id} to {target.host.uri}")
        self._watch(
            domain,
            lambda: migrations.send(
                domain, target.host.connection, way, live, running, config, storage.sent, storage.proven
            ),
        )

    def _changed(self, storage: Storage, domain: Domain, live: bool) -> str:
        text = migrations.text_for(domain, live)
        new = storage.rewritten(text)
        return new if new != text else ""

    def _watch(self, domain: Domain, send: Callable[[], None]) -> None:
        """While libvirt moves it. A cancel ends its job, and waits for what libvirt makes of it."""
        failed: list[BaseException] = []
        # a thread that somebody was interrupted in waiting for counts as ended (Python 3.11)
        ended = threading.Event()

        def call() -> None:
            try:
                send()
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        threading.Thread(target=call, name="migrate", daemon=True).start()
        try:
            todo = self._asked(domain)
            while not ended.wait(_LOOK):
                job = None
                with suppress(HostError):
                    job = self._job(domain)
                for when, act in list(todo):
                    if job and when(job):
                        todo.remove((when, act))
                        act()
        except KeyboardInterrupt:
            self.say("cancelling")
            while not ended.wait(_LOOK):
                self._abort(domain)
                with suppress(HostError):
                    self._job(domain)
            raise
        if failed:
            raise failed[0]

    def _asked(self, domain: Domain) -> list[tuple[Callable[[Job], bool], Callable[[], None]]]:
        """What libvirt is told while it moves a machine, and when."""
        todo: list[tuple[Callable[[Job], bool], Callable[[], None]]] = []

        def wait_less() -> None:
            with suppress(HostError):
                migrations.set_downtime(domain, self.way.downtime)

        def switch() -> None:
            with suppress(HostError):
                migrations.start_post_copy(domain)
                self.say("post-copy: it goes on there, and fetches the rest of its memory")

        if self.way.downtime:
            # with each move libvirt begins with its own
            todo.append((lambda job: True, wait_less))
        if self.way.post_copy:
            todo.append((lambda job: job.rounds > 1, switch))
        return todo

    def _abort(self, domain: Domain) -> None:
        # there may be no job yet, or none any more
        with suppress(HostError):
            migrations.abort(domain)

    def _job(self, domain: Domain) -> Job | None:
        """The move, which is told. Raises HostError."""
        job = migrations.job(domain)
        if job != self._last[0] or not self._last[1]:
            self._last = job, time.monotonic()
        elif time.monotonic() - self._last[1] > _STALLED:
            migrations.wake(domain)
            self._last = job, time.monotonic()
        if job and (whole := job.memory_total + job.disks_total):
            # memory is sent again where the guest writes to it
            what = "disks and memory" if self.copies else "memory"
            self.progress(min(job.memory + job.disks, whole), whole, what)
        return job

    @contextmanager
    def _taken_back(self) -> Iterator[None]:
        """What fails or is cancelled is taken back, unless it has moved all the same."""
        try:
            yield
        except (KvmstateError, KeyboardInterrupt) as error:
            try:
                moved = self._ended(error)
            except KvmstateError as unclear:
                why = f"{_said(error)}. What has become of {self.id} is not settled: {unclear.message}"
                kind = ConnectionFailed if isinstance(unclear, ConnectionFailed) else HostError
                code = unclear.code if isinstance(unclear, HostError) else 0
                raise kind(why, "run the same command again: it finishes the move, or takes it back", code) from error
            if not moved:
                raise

    def _ended(self, error: BaseException) -> bool:
        """Whether it has moved; what was begun is taken back if not."""
        entry = self.source.read().get(self.id)
        if entry is None or entry.migration is None or entry.left:
            return False
        here = self._here(entry).domain
        if here and isinstance(error, KeyboardInterrupt):
            # also one that a killed run has begun
            self._abort(here)
        if self._has_moved(entry):
            self.say("it has moved by now" if isinstance(error, KeyboardInterrupt) else _said(error))
            return True
        self._take_back(entry)
        return False

    def _here(self, entry: Entry) -> Place:
        return migrations.place(self.source.host.connection, entry.uuid)

    def _there(self, entry: Entry) -> Place:
        return migrations.place(self.target.host.connection, entry.uuid)

    def _has_moved(self, entry: Entry) -> bool:
        """Whether the target has it, as soon as libvirt has settled that. Raises HostError when it does not."""
        since = time.monotonic()
        while True:
            domain = self._here(entry).domain
            moves = domain is not None and self._job(domain) is not None
            # as they are after libvirt was at it
            here, there = self._here(entry), self._there(entry)
            waited = time.monotonic() - since
            if moves:
                since = time.monotonic()
            elif there.domain and there.runs and self.begun and self._here(entry).runs:
                # the other libvirtd was killed at the end of the move, and starts it when it is back; this host's has
                # not heard that it runs there, and it went on here at once
                self.say(f"{self.id} goes on on {self.source.host.uri}: ending the one on {self.target.host.uri}")
                with suppress(NotFound):
                    domains.destroy(there.domain)
            elif (moved := _settled(here, there)) is not None:
                return moved
            elif there.domain and there.waits and not there.persistent and waited > _FORGOTTEN:
                # its libvirtd was restarted, and has forgotten it
                with suppress(NotFound):
                    domains.destroy(there.domain)
            elif waited > _SETTLES:
                raise self._unclear(here, there)
            time.sleep(_LOOK)

    def _unclear(self, here: Place, there: Place) -> HostError:
        return HostError(
            f"{self.id} is {here} on {self.source.host.uri} and {there} on {self.target.host.uri}",
            "end the wrong one with `virsh destroy`: the one that does not have what was written last",
        )

    def _go_on_here(self, entry: Entry) -> None:
        """As before, where it has not moved."""
        here, there, mark = self._here(entry), self._there(entry), entry.migration
        if there.domain and there.off:
            # defined, and given up before it ran
            domains.undefine(there.domain, False, leaving(entry.uuid, lambda: self._here(entry).domain is not None))
        if here.domain and here.waits and mark and mark.state == "running":
            domains.resume(here.domain)

    def _discard(self, entry: Entry) -> None:
        """Delete the copies that were made there. Raises HostError while a machine may have them."""
        if not (there := self._there(entry)).off:
            raise HostError(f"{self.id} is {there} on {self.target.host.uri}", "look at both hosts")
        for each in underway(self.target.read(), self.name, ARRIVES):
            if each.incomplete:
                discard(self.target.host, each)

    def _take_back(self, entry: Entry) -> None:
        self._go_on_here(entry)
        self._discard(entry)
        here = self._here(entry)
        if here.domain and entry.migration and entry.migration.autostart:
            domains.set_autostart(here.domain, True)
        record.undo(self.source, self.target, self.name)

    def _finish(self, entry: Entry) -> Moved:
        """It runs on the target, or is defined there."""
        there, mark = self._there(entry), entry.migration
        if there.domain is None or not there.persistent:
            raise HostError(f"{self.id} is not defined on {self.target.host.uri}", "look at both hosts")
        here = self._here(entry)
        if here.runs:
            # somebody has started it since
            raise self._unclear(here, there)
        record.end(self.source, self.target, self.name)
        if here.domain:
            if not here.off:
                # it waits for a word that it has moved
                domains.destroy(here.domain)
                if there.off and mark and mark.state == "running":
                    self.say("it is off there, and is started")
                    domains.start(there.domain)
            domains.undefine(here.domain, False, leaving(entry.uuid, lambda: self._there(entry).persistent))
        if mark and mark.autostart:
            domains.set_autostart(there.domain, True)
        arriving = underway(self.target.read(), self.name, ARRIVES)
        host = self.target.host
        record.arrived(self.target, {e.id: entry.uuid if e.id == self.id else identity(host, e.id) for e in arriving})
        left = underway(self.source.read(), self.name, LEFT)
        copied = tuple(each.id for each in left if each.migration and each.migration.copied)
        return Moved(left=copied, job=migrations.last_job(there.domain))


def passes(error: HostError) -> bool:
    """Whether it takes no more than time: the host does not answer, or libvirt has waited in vain for what holds the
    domain, such as a daemon that was restarted and takes it up again."""
    return isinstance(error, ConnectionFailed) or error.code == migrations.HELD


def settled(move: Move, lost: HostError, hosts: Callable[[], AbstractContextManager[tuple[Side, Side]]]) -> Moved:
    """What has become of a move that ended with `lost`, which passes: as soon as both hosts answer again. Raises `lost`
    where they do not in time."""
    move.say(lost.message)
    move.say("waiting for both hosts")
    since = time.monotonic()
    while True:
        try:
            with hosts() as (source, target):
                return replace(move, source=source, target=target).undo()
        except HostError as error:
            if not passes(error):
                raise
            waited, away = time.monotonic() - since, isinstance(error, ConnectionFailed)
            if away and waited > _SETTLES:
                raise lost from error
            if not away and waited > _TAKEN_UP:
                # by whom is told where it is held on the source; on the target it may be held for good, by nobody
                where = "" if HOLDER in error.message else f" on {move.target.host.uri}"
                why = f"{move.id} is held{where}: {error.message}"
                raise HostError(why, error.hint, error.code) from error
        time.sleep(_LOOK)


def _settled(here: Place, there: Place) -> bool | None:
    """Which of both hosts has it, by how it is there; None where libvirt is still at it, or both run it. The source
    never goes on where the target may have run it."""
    if here.runs:
        return None if there.runs or there.waits else False
    if there.runs or (here.off and there.persistent):
        return True
    if there.waits:
        return None
    if there.given_up:
        return False
    if here.waits or here.off:
        return there.persistent
    # somebody had paused it before
    return there.persistent and there.paused


def _own(id_: ResourceId) -> str:
    return id_.name.partition("/")[2]


def _said(error: BaseException) -> str:
    return error.message if isinstance(error, KvmstateError) else "cancelled"


def _told(faults: list[Fault]) -> tuple[str, str]:
    if len(faults) == 1:
        return faults[0].message, faults[0].hint
    lines = [f"{fault.message} ({fault.hint})" if fault.hint else fault.message for fault in faults]
    return "it would not work:\n" + "\n".join(f"- {line}" for line in lines), ""
