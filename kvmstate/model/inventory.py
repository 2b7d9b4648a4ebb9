"""What a project owns on a host, and what it last applied there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kvmstate.model.resource import Lifecycle, ResourceId


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
