"""What a policy asks for now, on one virtual machine: take what is due, delete what retention drops."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kvmstate.errors import ConnectionFailed, HostError, KvmstateError
from kvmstate.host import Host
from kvmstate.kinds.snapshot_policy.retention import Taken, Verdict, judge
from kvmstate.kinds.snapshot_policy.spec import SnapshotPolicySpec
from kvmstate.model.resource import Observed, Resource
from kvmstate.model.schedule import time_zone
from kvmstate.snapshots import chain, create, merge
from kvmstate.snapshots.record import Record


@dataclass(frozen=True)
class Outcome:
    """What was done (in a dry run: would be) for one policy on one machine, as far as `errors` let it come.

    `created` is a snapshot's name, `skipped` why one that is due was not taken. `verdicts` are about all snapshots that
    the policy has there, the new one included; `held` of them would go, and stay because another branch needs them.
    """

    policy: Resource
    machine: Resource
    created: str = ""
    skipped: str = ""
    verdicts: tuple[Verdict, ...] = ()
    deleted: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    errors: tuple[KvmstateError, ...] = ()


@dataclass(frozen=True)
class Run:
    """`now` is in UTC; `say` is told what is going on. Only what this project and policy took is ever deleted."""

    host: Host
    project: str
    now: datetime
    dry: bool = False
    say: Callable[[str], None] = lambda text: None

    def outcome(self, policy: Resource, machine: Resource, observed: Observed | None) -> Outcome:
        """What fails is told in the outcome. Raises ConnectionFailed."""
        found = Outcome(policy, machine)
        try:
            if observed is None:
                raise HostError(f"{machine.id} is not on the host, or not this project's", "`kvmstate apply` makes it")
            taken = self._taken(policy, machine)
            spec: SnapshotPolicySpec = policy.spec
            if spec.when.is_due([snapshot.at for snapshot in taken], self.now):
                if spec.only_if_running and chain.look(self.host, machine.id.name).state == "stopped":
                    found = replace(found, skipped="it is not running")
                else:
                    name = self.take(policy, machine, observed)
                    found = replace(found, created=name)
                    taken.append(Taken(name, self.now))
        except KvmstateError as error:
            # what is to go stays while what replaces it cannot be taken
            return self._failed(found, error)
        return self._retain(found, taken)

    def _taken(self, policy: Resource, machine: Resource) -> list[Taken]:
        """The policy's own snapshots."""
        found = []
        for snapshot in chain.look(self.host, machine.id.name).snapshots:
            record = Record.read(snapshot.description)
            if record and (record.project, record.policy) == (self.project, policy.metadata.name):
                found.append(Taken(snapshot.name, record.at))
        return found

    def take(self, policy: Resource, machine: Resource, observed: Observed) -> str:
        """A new snapshot (none in a dry run), whether it is due or not. Returns its name. Raises KvmstateError."""
        spec: SnapshotPolicySpec = policy.spec
        found = chain.look(self.host, machine.id.name)
        if found.domain.UUIDString() != observed.uuid:
            raise HostError(f"{machine.id} is another one by now", "run this again")
        at, known = self.now, {snapshot.name for snapshot in found.snapshots}
        while (name := _name(policy, machine, at)) in known:
            # tried again within a second
            at += timedelta(seconds=1)
        disks = None
        if spec.disks is not None:
            disks = [disk.target for disk in observed.config.disks if disk.name in spec.disks]
            if not disks:
                raise HostError(f"{machine.id} has none of the disks {', '.join(spec.disks)}", "see the policy's disks")
        wish = create.Wish(
            name,
            str(Record(self.project, policy.metadata.name, at)),
            disks,
            # it may have been started or stopped since it was observed
            memory=spec.memory and found.state != "stopped",
            quiesce="no" if spec.memory or spec.mode == "internal" else spec.quiesce,
            mode=spec.mode,
        )
        if self.dry:
            create.check(self.host, found, wish)
        else:
            create.create(self.host, machine.id.name, wish, self.say)
            # disks have other files now: whoever defines the machine next must not think that they are others' volumes
            self.host.forget()
        return name

    def _retain(self, found: Outcome, taken: list[Taken]) -> Outcome:
        spec: SnapshotPolicySpec = found.policy.spec
        machine, gone = found.machine.id.name, list[str]()
        try:
            most = None
            # a chain grows when a snapshot is taken, and looking at it takes a while
            if spec.mode == "external" and found.created:
                most = len(taken) + spec.max_chain_depth - self._depth(machine) - self.dry
            verdicts = judge(taken, spec.retention, self.now, time_zone(spec.time_zone), most)
            found = replace(found, verdicts=verdicts)
            # the oldest first: it is the farthest from what the guest writes to
            going = [verdict.snapshot.name for verdict in reversed(verdicts) if not verdict.kept]

            def delete(name: str) -> None:
                self._delete(machine, name, frozenset(going))
                gone.append(name)

            held = merge.delete_each(delete, going)
            found = replace(found, held=tuple(held), verdicts=tuple(_held_back(v, held) for v in verdicts))
        except KvmstateError as error:
            found = self._failed(found, error)
        return replace(found, deleted=tuple(gone))

    def _delete(self, machine: str, name: str, going: frozenset[str]) -> None:
        """Raises StillNeeded for one that other branches have grown from, after a revert (in a dry run those that are
        `going` as well count for nothing), and HostError."""
        if not self.dry:
            merge.delete(self.host, machine, name, self.say)
            return
        try:
            merge.check(self.host, machine, name)
        except merge.StillNeeded as needed:
            if not needed.branches or not needed.branches <= going:
                raise

    def _depth(self, machine: str) -> int:
        """How many files the longest backing chain of the machine's disks has."""
        images = chain.Images(self.host)
        disks = chain.look(self.host, machine).disks
        return max((len(images.chain(disk.path, disk.format)) for disk in disks), default=0)

    def _failed(self, found: Outcome, error: KvmstateError) -> Outcome:
        if isinstance(error, ConnectionFailed):
            raise error
        return replace(found, errors=(*found.errors, error))


def _held_back(verdict: Verdict, held: Mapping[str, merge.StillNeeded]) -> Verdict:
    needed = held.get(verdict.snapshot.name)
    if needed is None:
        return verdict
    branches = ", ".join(sorted(needed.branches))
    why = f"another branch builds on it: {branches}" if branches else needed.message
    return Verdict(verdict.snapshot, (f"held back: {why}",))


def _name(policy: Resource, machine: Resource, now: datetime) -> str:
    words = {"{policy}": policy.metadata.name, "{domain}": machine.id.name, "{time}": now.strftime("%Y%m%dT%H%M%SZ")}
    name: str = policy.spec.name_pattern
    for placeholder, word in words.items():
        name = name.replace(placeholder, word)
    # it may name files
    return re.sub(r"[^A-Za-z0-9_.:+-]", "-", name)
