"""What the project of a virtual machine says of it, by the records on the host: what becomes of what people do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

from kvmstate.apply.keep import open_keep
from kvmstate.apply.lock import LEADER, Holder
from kvmstate.apply.records import records
from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, domains
from kvmstate.host.objects import Domain
from kvmstate.kind.stamps import stamped_by
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Lifecycle, Observed, ResourceId

# One is as good as the other: what is off is not started to be saved, and no saved memory is thrown away
_OFF = {"stopped", "saved"}


def _does(wanted: str, state: str) -> str:
    """What an apply does to a machine in this state."""
    if wanted == "running":
        return {"paused": "resumes it", "saved": "starts it from its saved memory"}.get(state, "starts it")
    if wanted == "paused" and state != "running":
        return "starts it, paused"
    return {"stopped": "shuts it down", "paused": "pauses it", "saved": "saves its memory"}[wanted]


@dataclass(frozen=True)
class Standing:
    """`project` owns it, or nobody; `daemon` looks after that, in this `mode`. `unread`: the project's record cannot be
    read, and only the machine's own stamp tells of it."""

    name: str
    project: str = ""
    entry: Entry | None = None
    daemon: str = ""
    unread: bool = False
    mode: str = ""

    @property
    def wanted(self) -> str:
        """The state that its manifest said when it was applied last; empty where it says none."""
        if self.entry is None or not self.entry.specs or "state" in self.lifecycle.ignore_changes:
            return ""
        said = str(self.entry.specs[-1].get("state", "running"))
        return "" if said == "ignore" else said

    @property
    def kept_of(self) -> str:
        """The template that this domain, which never runs, is kept of; empty of other machines."""
        return str(self.entry.specs[-1].get("domainOf") or "") if self.entry and self.entry.specs else ""

    @property
    def lifecycle(self) -> Lifecycle:
        return self.entry.lifecycle if self.entry else Lifecycle()

    @property
    def suspended(self) -> str:
        """Why it is left alone, and what ends that; empty when it is not."""
        if self.entry and self.entry.suspended:
            return f"it is suspended ({self.entry.suspended}): `kvmstate resume domain/{self.name}` ends that"
        return "lifecycle.suspend leaves it alone" if self.lifecycle.suspend else ""

    def check_start(self) -> None:
        """Refuse to start what never runs, and what is on its way to another host, or has gone there: it may run there.
        Raises HostError."""
        if of := self.kept_of:
            raise HostError(
                f"it is kept of {of} to be found, and is never started",
                f"start a clone: a VirtualMachine with `template: {self.name}`",
            )
        if self.entry and (mark := self.entry.migration):
            again = f"`kvmstate vm migrate {self.name}` once more, between this host and {mark.uri}"
            raise HostError(
                f"it may run on another host: suspended {self.entry.suspended}",
                f"{again}, finishes the move, or takes it back",
            )

    @property
    def says(self) -> str:
        """Whose it is, and the state that it should be in."""
        return f"its manifest (project {self.project}) says {self.wanted}"

    def fights(self, state: str) -> bool:
        """Whether a daemon undoes it at once when the machine is brought to this state."""
        enforced = self.daemon and (self.lifecycle.mode or self.mode) != "observe"
        return bool(enforced and self._differs(state) and not self.suspended)

    def fate(self, state: str) -> str:
        """What becomes of a machine that is in this state, as a sentence; empty when nothing does."""
        if self.unread:
            return f"it is stamped as project {self.project}'s, whose record on the host cannot be read"
        if not self._differs(state):
            return ""
        says = self.says
        if self.entry and self.entry.migration:
            return f"{says}, and it is suspended ({self.entry.suspended})"
        if self.suspended:
            return f"{says}, and {self.suspended}"
        if self.kept_of and self.lifecycle.restart != "now":
            return f"it is kept of {self.kept_of} to be found: `lifecycle.restart: now` lets an apply power it off"
        if self.fights(state):
            return f"{says}, and the daemon {self.daemon} keeps it so"
        return f"{says}: the next apply {_does(self.wanted, state)}"

    def _differs(self, state: str) -> bool:
        return bool(self.wanted) and self.wanted != state and not {self.wanted, state} <= _OFF


@dataclass
class Standings:
    """Of all machines of a host; the records are read with the first question."""

    host: Host
    _daemons: dict[str, tuple[str, str]] = field(default_factory=dict)
    _blind: bool = False

    @cached_property
    def _records(self) -> tuple[dict[ResourceId, list[tuple[str, Entry]]], set[str]]:
        try:
            found, unread = records(self.host)
        except ConnectionFailed:
            raise
        except HostError:
            # who may start machines need not be one who may see secrets
            self._blind = True
            return {}, set()
        owned: dict[ResourceId, list[tuple[str, Entry]]] = {}
        for project, inventory in found.items():
            for id_, entry in inventory.entries.items():
                if id_.kind == Domain.type:
                    owned.setdefault(id_, []).append((project, entry))
        return owned, unread

    def of(self, domain: Domain) -> Standing:
        """What is on record of it. Raises HostError."""
        owned, unread = self._records
        for project, entry in owned.get(ResourceId(Domain.type, domain.name), ()):
            if entry.uuid in ("", domain.uuid):
                daemon, mode = self._daemon(project)
                return Standing(domain.name, project, entry, daemon, mode=mode)
        if unread or self._blind:
            stamp = stamped_by(domains.xml(domain))
            if stamp and (self._blind or stamp in unread):
                return Standing(domain.name, stamp, unread=True)
        return Standing(domain.name)

    def pending(self, standing: Standing) -> tuple[str, ...]:
        """The fields that the machine takes on with its next start."""
        if standing.entry is None or not standing.entry.pending:
            return ()
        # loads the models of machines
        from kvmstate.kinds import BY_WORD
        from kvmstate.plan.pending import waiting

        seen = BY_WORD[Domain.type].ops.observe(self.host, {standing.name}).get(standing.name)
        if not isinstance(seen, Observed) or seen.saved_xml:
            return standing.entry.pending
        return tuple(dict.fromkeys(change.where for change in waiting(standing.entry, seen)))

    def _daemon(self, project: str) -> tuple[str, str]:
        """Who it is, or nobody; and its mode."""
        if project not in self._daemons:
            found = open_keep(self.host, project, LEADER).claimed()
            leader = Holder.parse(found[1]) if found else None
            acts = leader is not None and not leader.stale(time.time())
            self._daemons[project] = (str(leader), leader.mode) if leader and acts else ("", "")
        return self._daemons[project]
