"""What a kind is: its words, its model, and what it does on a host."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, get_args

from pydantic import TypeAdapter

from kvmstate.kind.spec import Declaration
from kvmstate.model.change import Change
from kvmstate.model.reference import Unlocated
from kvmstate.model.resource import Observed, Resource
from kvmstate.xmlbind import parse, with_defaults

if TYPE_CHECKING:
    # libvirt is loaded when a host is first talked to
    from kvmstate.host import Host
    from kvmstate.host.permit import Permit


@dataclass(frozen=True)
class Kind:
    """One kind: `name` as manifests write it, `word` as libvirt does, `spec` a Spec or a union of them.

    `volatile` are the XPaths of what libvirt's XML says anew while nobody changes anything. A kind that is not
    `on_host` lives in manifests alone: it has no object there and no `ops`, and plans leave it out.
    """

    name: str
    word: str
    title: str
    spec: Any
    holds_data: bool = False
    volatile: tuple[str, ...] = ()
    on_host: bool = True

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.spec)

    @property
    def specs(self) -> tuple[type[Declaration], ...]:
        """The members of the union, or the one model."""
        return (self.spec,) if isinstance(self.spec, type) else self._members(self.spec)

    def _members(self, annotation: Any) -> tuple[type[Declaration], ...]:
        if isinstance(annotation, type):
            return (annotation,) if issubclass(annotation, Declaration) else ()
        return tuple(member for arg in get_args(annotation) for member in self._members(arg))

    @cached_property
    def ops(self) -> Any:
        """The module that works on a host: observe, complete, steps (see `kvmstate.kinds`)."""
        return importlib.import_module(f"{self.specs[0].__module__.rpartition('.')[0]}.ops")

    def complete(self, resource: Resource, observed: Observed | None, project: str) -> Any:
        """The spec with all that it will be: names, addresses and defaults."""
        spec = self.ops.complete(resource, observed, project)
        seen = observed.config if observed else None
        if observed is None and (rest := spec.rest) is not None:
            # what the remainder has a part of is as good as there
            seen = parse(type(spec), rest, Unlocated())
        return with_defaults(spec, seen, whole=not spec.remainder)

    def deletion(self, chosen: str | None) -> str:
        """delete or orphan: as the lifecycle says, else orphan for what holds data."""
        return chosen or ("orphan" if self.holds_data else "delete")


class Gate(Protocol):
    """Gives leave for what cannot be undone, as the change that asks for it allows; see `kvmstate.apply.gate`."""

    def removal(self, change: Change) -> Permit:
        """To delete or undefine the object, also to make it anew."""

    def renaming(self, change: Change) -> Permit:
        """To take the object away under its old name, and define it under the new one."""

    def filling(self, change: Change) -> Permit:
        """To write over what is in a volume that this run has just made."""

    def growing(self, change: Change) -> Permit:
        """To resize a volume that the project owns."""

    def made(self, change: Change, identity: str) -> None:
        """Tell which object has been made for a change, before anything is put into it."""


@dataclass(frozen=True)
class Context:
    """What the steps of a change work with."""

    host: Host
    project: str
    gate: Gate
