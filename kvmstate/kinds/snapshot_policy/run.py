"""What a policy asks for now, on one virtual machine: take what is due, delete what retention drops."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kvmstate.errors import ConnectionFailed, HostError, KvmstateError
from kvmstate.kind.policy import Made, Outcome, Verdict, Work
from kvmstate.kinds.snapshot_policy.retention import judge
from kvmstate.kinds.snapshot_policy.spec import SnapshotPolicySpec
from kvmstate.model.resource import Observed, Resource
from kvmstate.model.schedule import time_zone
from kvmstate.snapshots import chain, create, merge
from kvmstate.snapshots.record import Record


@dataclass(frozen=True)
class Run:
    """One policy at work. Only what this project and policy took is ever deleted."""

    policy: Resource
    work: Work

    @property
    def _spec(self) -> SnapshotPolicySpec:
        spec: SnapshotPolicySpec = self.policy.spec
        return spec

    def outcome(self, machine: Resource, observed: Observed | None) -> Outcome:
        """What fails is told in the outcome. Raises ConnectionFailed."""
        found = Outcome(self.policy, machine)
        try:
            if observed is None:
                raise HostError(f"{machine.id} is not on the host, or not this project's", "`kvmstate apply` makes it")
            taken = self._taken(machine)
            if self._spec.when.is_due([snapshot.at for snapshot in taken], self.work.now):
                if self._spec.only_if_running and chain.look(self.work.host, machine.id.name).state == "stopped":
                    found = replace(found, skipped="it is not running")
                else:
                    name = self.take(machine, observed)
                    found = replace(found, created=name)
                    taken.append(Made(name, self.work.now))
        except KvmstateError as error:
            # what is to go stays while what replaces it cannot be taken
            return self._failed(found, error)
        return self._retain(found, taken)

    def _taken(self, machine: Resource) -> list[Made]:
        """The policy's own snapshots."""
        found = []
        for snapshot in chain.look(self.work.host, machine.id.name).snapshots:
            record = Record.read(snapshot.description)
            if record and (record.project, record.policy) == (self.work.project, self.policy.metadata.name):
                found.append(Made(snapshot.name, record.at))
        return found

    def take(self, machine: Resource, observed: Observed) -> str:
        """A new snapshot (none in a dry run), whether it is due or not. Returns its name. Raises KvmstateError."""
        spec = self._spec
        found = chain.look(self.work.host, machine.id.name)
        if found.domain.uuid != observed.uuid:
            raise HostError(f"{machine.id} is another one by now", "run this again")
        at, known = self.work.now, {snapshot.name for snapshot in found.snapshots}
        while (name := _name(self.policy, machine, at)) in known:
            # tried again within a second
            at += timedelta(seconds=1)
        disks = None
        if spec.disks is not None:
            disks = [disk.target for disk in observed.config.disks if disk.name in spec.disks]
            if not disks:
                raise HostError(f"{machine.id} has none of the disks {', '.join(spec.disks)}", "see the policy's disks")
        wish = create.Wish(
            name,
            str(Record(self.work.project, self.policy.metadata.name, at)),
            disks,
            # it may have been started or stopped since it was observed
            memory=spec.memory and found.state != "stopped",
            quiesce="no" if spec.memory or spec.mode == "internal" else spec.quiesce,
            mode=spec.mode,
        )
        if self.work.dry:
            create.check(self.work.host, found, wish)
        else:
            create.create(self.work.host, machine.id.name, wish, self.work.say)
            # disks have other files now: whoever defines the machine next must not think that they are others' volumes
            self.work.host.forget()
        return name

    def _retain(self, found: Outcome, taken: list[Made]) -> Outcome:
        spec = self._spec
        machine, gone = found.target.id.name, list[str]()
        try:
            most = None
            # a chain grows when a snapshot is taken, and looking at it takes a while
            if spec.mode == "external" and found.created:
                most = len(taken) + spec.max_chain_depth - self._depth(machine) - self.work.dry
            verdicts = judge(taken, spec.retention, self.work.now, time_zone(spec.time_zone), most)
            found = replace(found, verdicts=verdicts)
            # the oldest first: it is the farthest from what the guest writes to
            going = [verdict.made.name for verdict in reversed(verdicts) if not verdict.kept]

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
        if not self.work.dry:
            merge.delete(self.work.host, machine, name, self.work.say)
            return
        try:
            merge.check(self.work.host, machine, name)
        except merge.StillNeeded as needed:
            if not needed.branches or not needed.branches <= going:
                raise

    def _depth(self, machine: str) -> int:
        """How many files the longest backing chain of the machine's disks has."""
        images = chain.Images(self.work.host)
        disks = chain.look(self.work.host, machine).disks
        return max((len(images.chain(disk.path, disk.format)) for disk in disks), default=0)

    def _failed(self, found: Outcome, error: KvmstateError) -> Outcome:
        if isinstance(error, ConnectionFailed):
            raise error
        return replace(found, errors=(*found.errors, error))


def _held_back(verdict: Verdict, held: Mapping[str, merge.StillNeeded]) -> Verdict:
    needed = held.get(verdict.made.name)
    if needed is None:
        return verdict
    branches = ", ".join(sorted(needed.branches))
    why = f"another branch builds on it: {branches}" if branches else needed.message
    return Verdict(verdict.made, (f"held back: {why}",))


def _name(policy: Resource, machine: Resource, now: datetime) -> str:
    words = {"{policy}": policy.metadata.name, "{domain}": machine.id.name, "{time}": now.strftime("%Y%m%dT%H%M%SZ")}
    name: str = policy.spec.name_pattern
    for placeholder, word in words.items():
        name = name.replace(placeholder, word)
    # it may name files
    return re.sub(r"[^A-Za-z0-9_.:+-]", "-", name)
