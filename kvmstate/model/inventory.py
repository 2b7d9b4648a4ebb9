"""What a project owns on a host, and what it last applied there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kvmstate.model.resource import Lifecycle, ResourceId


@dataclass(frozen=True)
class Migration:
    """The move of a machine to another host, in the record of both; see `kvmstate.migration.record`.

    `role`: it LEAVES or has LEFT this host, or ARRIVES here. `host` is the other one (`Host.identity`), `uri` how it
    was reached. `machine` is what moves, or what a volume moves with; `state` is what it was in before (running, paused
    or stopped), and `autostart` whether it started with its host. A volume that was not `copied` is one that both hosts
    see. What arrives where it had left before `returns`.
    """

    role: str
    host: str
    uri: str
    machine: str
    state: str
    autostart: bool = False
    copied: bool = False
    returns: bool = False


LEAVES, LEFT, ARRIVES = "leaves", "left", "arrives"


@dataclass(frozen=True)
class Entry:
    """One owned object.

    `specs` are what was applied, as manifests write it: one, or two while a change is under way (or was cut off):
    the last and the next. `incomplete`: it is being made, and nobody has used it yet. `digest` is of manifest and host
    when they were last seen to agree. `suspended` says since when, by whom and why it is left alone. `confirmed`: it
    may be deleted, where that waits for confirmation. `applied` are digests of the differences that the last change was
    done for, until they are seen to be gone; `pending` are the fields that it left to the next start. What is
    `orphaned` is not owned any more, and has left something on the host (see `Inventory`). What a pool that
    was `built` is on, kvmstate has made or formatted. `copied_from` is what an incomplete volume is a copy of, which
    machines may be on as long as this is not whole; what has `moved_to` another pool holds what was there before.
    `migration`: it goes to another host, or comes from there, and is suspended meanwhile.
    """

    id: ResourceId
    uuid: str
    specs: tuple[dict[str, object], ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    incomplete: bool = False
    digest: str = ""
    suspended: str = ""
    confirmed: bool = False
    handed_from: str = ""
    handed_to: str = ""
    applied: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    orphaned: bool = False
    built: bool = False
    copied_from: str = ""
    moved_to: str = ""
    migration: Migration | None = None

    @property
    def left(self) -> bool:
        """Whether another host has it by now: this is no more than a note of that."""
        return self.migration is not None and self.migration.role == LEFT

    def beginning(self, spec: dict[str, object]) -> Entry:
        return self if spec in self.specs else replace(self, specs=(*self.specs[-1:], spec), digest="")


@dataclass(frozen=True)
class Inventory:
    """`orphans` are what the project released and the host has: volumes with their data, or the state of machines.
    They are nobody's, and the same ones again when its manifests declare them."""

    project: str
    entries: Mapping[ResourceId, Entry] = field(default_factory=dict)
    orphans: Mapping[ResourceId, Entry] = field(default_factory=dict)

    def get(self, id_: ResourceId) -> Entry | None:
        return self.entries.get(id_)
