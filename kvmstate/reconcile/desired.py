"""The manifests in force: the last ones that were whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from kvmstate.apply import Store
from kvmstate.errors import KvmstateError
from kvmstate.manifest import Project
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan import Options
from kvmstate.plan.compare import last_applied
from kvmstate.plan.planner import Locate
from kvmstate.sources.revision import Revision


@dataclass(frozen=True)
class Desired:
    """`whole` is false for what was applied last, when no manifests can be read: it says nothing of what is not in
    it."""

    project: Project
    resources: tuple[Resource, ...]
    locate: Locate | None = None
    whole: bool = True

    @cached_property
    def by_id(self) -> Mapping[ResourceId, Resource]:
        return {resource.id: resource for resource in self.resources}

    @property
    def prune(self) -> str:
        """off, on or confirm"""
        if not self.whole:
            return "off"
        chosen = self.project.reconcile.prune
        if chosen is None:
            chosen = self.project.prune
        return chosen if isinstance(chosen, str) else "on" if chosen else "off"

    @property
    def options(self) -> Options:
        return Options(
            prune=self.prune != "off",
            moves=self.project.moves,
            lenient=True,
            nameless=not self.project.named,
            # what waits for a person is not braked
            max_delete_share=1 if self.prune == "confirm" else self.project.max_delete_share,
            rollout=self.project.rollout,
        )

    def means_the_same(self, before: Desired) -> bool:
        """Whether the project's settings are as before; where its files are does not count."""
        a, b = self.project, before.project
        return (a.moves, a.reconcile, a.prune, a.max_delete_share, a.rollout, self.whole) == (
            b.moves,
            b.reconcile,
            b.prune,
            b.max_delete_share,
            b.rollout,
            before.whole,
        )

    def changed(self, before: Desired) -> set[ResourceId]:
        """What is wanted otherwise than before."""
        ids = self.by_id.keys() | before.by_id.keys()
        return {id_ for id_ in ids if _said(self.by_id.get(id_)) != _said(before.by_id.get(id_))}


@dataclass(frozen=True)
class Source:
    """Where manifests come from.

    `project` and `load` read the files as they are now, and raise ManifestErrors and UsageError; `found` is told what
    was read; `uri` is the connection to a project's host, None for libvirt's own rule. `stamp` is another one when any
    of the files is. `fetch` brings newer ones (with a note on how, if it was not a plain step forward), and raises
    SourceError; it is called in a thread of its own, and changes nothing while `reading` is held. `every` is its
    interval in seconds. `named` gives what is wrong with files the names that their authors know them by.
    """

    project: Callable[[], Project]
    load: Callable[[], Desired]
    uri: Callable[[Project], str | None] = lambda project: project.connection
    found: Callable[[Project], None] = lambda project: None
    stamp: Callable[[], object] = lambda: None
    fetch: Callable[[], tuple[Revision, str]] | None = None
    every: float = 60
    reading: threading.Lock = field(default_factory=threading.Lock)
    named: Callable[[KvmstateError], KvmstateError] = lambda error: error


def applied_last(project: Project, store: Store) -> Desired:
    """What the host's record tells, as far as it can be read."""
    entries = store.inventory.entries.values()
    return Desired(project, tuple(filter(None, map(last_applied, entries))), whole=False)


def _said(resource: Resource | None) -> Resource | None:
    """Without the place in its file, which moves with every line above."""
    return replace(resource, origin=None) if resource else None  # type: ignore[arg-type]
