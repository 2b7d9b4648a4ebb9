"""What a kind is: its words, its model, and what it does on a host."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter

from kvmstate.errors import HostError, Unseen
from kvmstate.kind.members import Members
from kvmstate.kind.spec import Declaration, Fault
from kvmstate.model.change import Change
from kvmstate.model.reference import Unlocated, VolumeRef
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import Section, parse, with_defaults

if TYPE_CHECKING:
    from lxml import etree

    # libvirt is loaded when a host is first talked to
    from kvmstate.host import Host
    from kvmstate.host.clients import Client
    from kvmstate.host.named import User
    from kvmstate.host.objects import Handle
    from kvmstate.host.permit import Permit
    from kvmstate.kind.policy import Policy
    from kvmstate.kind.steps import Step
    from kvmstate.model.inventory import Entry, Inventory
    from kvmstate.model.pool_types import PoolType


@dataclass(frozen=True)
class Form:
    """What manifests and XML say of a kind: `spec`, a model or its Members; `volatile`, the XPaths of what libvirt's
    XML changes by itself; `images`, those that a spec, as it was written, names, and the formats
    that it says of them; `given`, the names of those that come with libvirt: everybody may refer to them, and nobody's
    project has them; `unwritable`, the characters that libvirt writes into XML as they are, which no name may have;
    `names`, a regular expression of those that one may have, and that in words; `named`, what of the host has its name,
    which nothing else may have then."""

    spec: type[Declaration] | Members
    volatile: tuple[str, ...] = ()
    images: Callable[[str, Mapping[str, object]], Iterable[tuple[VolumeRef | str, str | None]]] = lambda name, spec: ()
    given: frozenset[str] = frozenset()
    unwritable: str = ""
    names: tuple[str, str] | None = None
    named: Callable[[Any], str] = lambda spec: ""


@dataclass(frozen=True)
class Kind:
    """One kind: `name` as manifests write it, `word` as libvirt does, `form` its Form, or the package whose module
    `spec` has it as FORM and is loaded when there is one of the kind: models take time to build.

    `parent` is the word of the
    kind of object that it is in, whose name is the first part of its own. `has_uuid`: libvirt gives it one. `stamped`:
    its XML keeps what others write into it. `cannot_rename`: why, and what people can do instead. `folder` is that of
    imported manifests, `shape` and `brackets` are how Graphviz and Mermaid draw it, `also` is what other tools call it.
    Of the fields `decided` a plan is out of date when their value on the host has changed since. Of a kind that
    `rolls_out`, such as machines, no more are down at a time than the project's file lets be. Of a kind that is
    `of_host` the host has more than anybody declares: others may name one that is nowhere declared, and `import --all`
    leaves them alone. A kind that is not
    `on_host` lives in manifests alone: it has no object there and no `ops`, and plans leave it out. Either it
    `is_policy`, with a module `policy`, or it may `expand`: its document yields other resources. What is wrong with
    those is said at the document; a ValueError says why there are none. A document of a kind that `inherits` may name,
    in this field, a resource of the kind of this word, which is `inherited_by` the former: what that says stands where
    the document says nothing.
    """

    name: str
    word: str
    title: str
    form: Form | str
    folder: str = ""
    holds_data: bool = False
    on_host: bool = True
    parent: str = ""
    has_uuid: bool = True
    stamped: bool = False
    cannot_rename: tuple[str, str] | None = None
    shape: str = "note"
    brackets: tuple[str, str] = ("[", "]")
    also: tuple[str, ...] = ()
    decided: frozenset[str] = frozenset()
    is_policy: bool = False
    inherits: str = ""
    inherited_by: str = ""
    rolls_out: bool = False
    of_host: bool = False
    expand: Callable[[Resource], Iterable[Resource]] | None = None

    @cached_property
    def says(self) -> Form:
        """Its Form."""
        found: Form = self.form if isinstance(self.form, Form) else self._module("spec").FORM
        return found

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """The adapter of all that a spec may be."""
        spec = self.says.spec
        return TypeAdapter(spec.union if isinstance(spec, Members) else spec)

    def adapter_of(self, data: object) -> TypeAdapter[Any]:
        """Choose the adapter of what this spec says that it is."""
        spec = self.says.spec
        one = spec.named(data.get(spec.by)) if isinstance(spec, Members) and isinstance(data, Mapping) else None
        return _adapter(one) if one else self.adapter

    def read(self, data: object) -> Any:
        """The spec that kept data says. Raises pydantic's ValidationError."""
        return self.adapter_of(data).validate_python(data)

    @property
    def specs(self) -> tuple[type[Declaration], ...]:
        """All models that a spec may be of."""
        spec = self.says.spec
        return tuple(spec) if isinstance(spec, Members) else (spec,)

    @cached_property
    def sections(self) -> tuple[type[Section], ...]:
        """Those members that are Sections."""
        specs: tuple[type[object], ...] = self.specs
        return tuple(spec for spec in specs if issubclass(spec, Section))

    @property
    def element(self) -> str:
        """The document element of its XML."""
        return str(getattr(self.specs[0], "element", ""))

    @cached_property
    def ops(self) -> Ops:
        """What it does on a host: OPS in the module `ops` beside its spec."""
        ops: Ops = self._module("ops").OPS
        return ops

    @cached_property
    def policy(self) -> type[Policy]:
        """What it does as a policy: the class in the module `policy` beside its spec."""
        policy: type[Policy] = self._module("policy").Policy
        return policy

    @property
    def example(self) -> Path:
        """The file of a complete manifest, which `explain` and the documentation show."""
        return Path(str(sys.modules[self.specs[0].__module__].__file__)).with_name("example.yaml")

    def _module(self, name: str) -> Any:
        assert isinstance(self.form, str)
        return importlib.import_module(f"{self.form}.{name}")

    @property
    def address(self) -> str:
        """The form of its addresses."""
        return f"{self.word}/{self.parent.upper()}/NAME" if self.parent else f"{self.word}/NAME"

    def local_name(self, id_: ResourceId) -> str:
        """Its name, without that of what it is in."""
        return id_.name.partition("/")[2] if self.parent else id_.name

    def parent_of(self, id_: ResourceId) -> ResourceId | None:
        """What it is in."""
        return ResourceId(self.parent, id_.name.partition("/")[0]) if self.parent else None

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


@cache
def _adapter(model: type[Declaration]) -> TypeAdapter[Any]:
    return TypeAdapter(model)


@dataclass(frozen=True)
class Scene:
    """A plan in the making: `changes` by address may be replaced; `inventory` is what the project owns."""

    host: Host
    changes: dict[ResourceId, Change]
    desired: Mapping[ResourceId, Resource]
    inventory: Inventory


@dataclass(frozen=True)
class Space:
    """What is left of a place for data, in bytes, as of libvirt's last look at it."""

    capacity: int
    allocation: int
    available: int


@dataclass(frozen=True)
class Room:
    """What something takes of its place, in bytes: `at_once` with the change, up to `in_all` after it, and what it has
    now (`held`)."""

    at_once: int
    in_all: int
    held: int


def _uuid(host: Host, id_: ResourceId, thing: Handle) -> str:
    return thing.uuid


@dataclass(frozen=True)
class Ops:
    """What a kind does on a host. It says of the later ones only those where it has something to say.

    names      of those that exist and have a configuration to keep
    observe    those of these names that exist, by name; Unseen for what nobody can tell of
    portable   the spec and the document that a manifest has to say, without what is volatile
    complete   the spec with names, MAC addresses and defaults filled in; gets what is observed, and the project's name
    steps      those that make a change real, in order
    adopted    those that mark what is adopted as the project's, where its XML can say so
    secrets    the places of what only those see who may see secrets
    users      who would miss what a change takes away; raises HostError when that cannot be told
    in_use     why it is not taken from these users, and what to do, where there is more to say than who they are
    identity   which object of its name this object is
    unwritten  whether nothing was ever written to what holds data
    taken      whether an object has this UUID, under whatever name; of kinds whose state the host keeps by it
    checked    a change, blocked where it must not be as the host is; the entry is what the project has on record
    judge      changes what the plan does to those of this kind, by what it does to others
    removed    deletions that say what goes and what stays; gets the specs that were applied last, by address
    space      what is left of a place for data
    addresses  the IP addresses of a guest that runs
    clients    the interfaces that are on a network, with their addresses; raises HostError
    room       what something takes of the place that it is in, which keeps it so, after a change
    offers     what a host, or a server, has that could be one, of a type or of all; errors for what it cannot tell of
    begun      the document that a new object is written into, where a spec without a remainder can say all of one
    obvious    takes out of a remainder what every object has, and `begun` adds
    copying    why what holds data cannot be copied from where it is to its new place now, with machines on it
    followed   the resource, when what it refers to has moved: gets what is observed, and the old addresses by new ones
    settled    does what is due when a run has done its changes; gets the resources of this kind; raises HostError
    """

    names: Callable[[Host], set[str]]
    observe: Callable[[Host, Set[str]], Mapping[str, Observed | Unseen]]
    portable: Callable[[Observed, Host], tuple[object, etree._Element]]
    complete: Callable[[Resource, Observed | None, str], Any]
    steps: Callable[[Change, Context], list[Step]]
    adopted: Callable[[Change, Context], list[Step]] = lambda change, at: []
    secrets: Callable[[Observed, Host], Iterable[str]] = lambda observed, host: ()
    users: Callable[[Host, Change], set[User]] = lambda host, change: set()
    in_use: Callable[[Sequence[User]], tuple[str, str] | None] = lambda users: None
    identity: Callable[[Host, ResourceId, Handle], str] = _uuid
    unwritten: Callable[[Observed], bool] = lambda observed: False
    taken: Callable[[Host, str], bool] = lambda host, uuid: True
    checked: Callable[[Host, Change, Entry | None], Change] = lambda host, change, entry: change
    judge: Callable[[Scene], None] = lambda scene: None
    removed: Callable[[Sequence[Change], Host, Mapping[ResourceId, Sequence[Any]]], Iterable[Change]] = (
        lambda changes, host, said: changes
    )
    space: Callable[[Observed], Space | None] = lambda observed: None
    addresses: Callable[[Host, Observed], list[str]] = lambda host, observed: []
    clients: Callable[[Host, Observed], Sequence[Client]] | None = None
    room: Callable[[Change, PoolType], Room | None] = lambda change, place: None
    offers: Callable[[Host, str, str], Iterable[Resource | HostError]] | None = None
    begun: Callable[[Host, Any], etree._Element] | None = None
    obvious: Callable[[etree._Element], None] | None = None
    copying: Callable[[Host, Change, Observed], Fault | None] = lambda host, change, source: None
    followed: Callable[[Resource, Observed | None, Mapping[ResourceId, ResourceId]], Resource] = (
        lambda resource, observed, origins: resource
    )
    settled: Callable[[Host, Sequence[Resource]], None] = lambda host, resources: None


class Gate(Protocol):
    """Gives leave for what cannot be undone, as the change that asks for it allows; see `kvmstate.apply.gate`."""

    def removal(self, change: Change) -> Permit:
        """To delete or undefine the object, also to make it again."""

    def renaming(self, change: Change) -> Permit:
        """To take the object away under its old name, and define it under the new one."""

    def filling(self, change: Change) -> Permit:
        """To write over what is in a volume that this run has just made."""

    def growing(self, change: Change) -> Permit:
        """To resize a volume that the project owns."""

    def shrinking(self, change: Change) -> Permit:
        """To make a volume that the project owns smaller."""

    def building(self, change: Change) -> Permit:
        """To make or format the storage of a pool; recorded, when it is about to be done."""

    def unbuilt(self, change: Change) -> None:
        """Tell that nothing was built after all."""

    def unbuilding(self, change: Change) -> Permit:
        """To delete the storage of a pool that kvmstate has built."""

    def made(self, change: Change, identity: str) -> None:
        """Tell which object has been made for a change, before anything is put into it."""

    def made_empty(self, id_: ResourceId) -> bool:
        """Whether this run has made it, and has put nothing into it."""


@dataclass(frozen=True)
class Context:
    """What the steps of a change work with."""

    host: Host
    project: str
    gate: Gate
