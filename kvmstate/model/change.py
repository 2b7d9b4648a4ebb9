"""Changes: the difference between what should exist and what does, and what it costs."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace
from typing import Any

from kvmstate.model.effect import Effect
from kvmstate.model.resource import Lifecycle, Observed, Resource, ResourceId, Stop


@dataclass(frozen=True)
class Legend:
    """What an action is called, everywhere.

    `symbol` and `will` stand in plans, `doing` and `done` in an apply. `actions` are those of JSON, `happened` those of
    drift: what must have happened on the host that this action would correct it. `counts` are Terraform's; `tally`
    counts what Terraform does not know. `sync` is the resource's state until the action is carried out, `event` the
    reason of a daemon's event after it.
    """

    symbol: str
    will: str
    doing: str
    done: str
    actions: tuple[str, ...]
    happened: tuple[str, ...] = ("update",)
    counts: tuple[str, ...] = ()
    tally: tuple[str, str] | None = None
    sync: str = ""
    event: str = ""


_ANEW = ("delete", "create")


class Action(enum.Enum):
    """What happens to a resource; the value says what it is called."""

    NOOP = Legend(" ", "is unchanged", "", "", ("no-op",))
    CREATE = Legend(
        "+", "will be created", "Creating...", "Creation complete", ("create",), ("delete",), ("add",), sync="Missing"
    )
    UPDATE = Legend(
        "~",
        "will be updated in place",
        "Modifying...",
        "Modifications complete",
        ("update",),
        counts=("change",),
        sync="Differs",
    )
    REPLACE = Legend(
        "-/+",
        "will be replaced",
        "Replacing...",
        "Replacement complete",
        _ANEW,
        _ANEW,
        ("add", "destroy"),
        sync="Differs",
    )
    DELETE = Legend(
        "-",
        "will be destroyed",
        "Destroying...",
        "Destruction complete",
        ("delete",),
        counts=("destroy",),
        sync="Orphaned",
        event="Deleted",
    )
    ADOPT = Legend(
        "=",
        "will be adopted",
        "Adopting...",
        "Adoption complete",
        ("adopt",),
        _ANEW,
        tally=("adopt", "adopted"),
        sync="NotOwned",
    )
    FORGET = Legend(
        ".",
        "will be released; it stays on the host",
        "Releasing...",
        "Released",
        ("forget",),
        tally=("release", "released"),
        sync="Orphaned",
        event="Released",
    )


class Key(str):
    """The part of a path that tells items of a list apart."""

    __slots__ = ()


def field_path(text: str) -> list[str]:
    """The parts of `disks[data].cache`, which is also written `disks.data.cache`."""
    return [key or name for key, name in re.findall(r"\[([^][]+)\]|([^.[\]]+)", text)]


@dataclass(frozen=True)
class FieldChange:
    """One difference. `path` is made of field names as manifests spell them, and `Key`s of list items."""

    path: tuple[str, ...]
    old: Any
    new: Any
    effect: Effect
    sensitive: bool = False

    @property
    def where(self) -> str:
        """`disks[data].cache`"""
        return "".join(f"[{part}]" if isinstance(part, Key) else f".{part}" for part in self.path).lstrip(".")


@dataclass(frozen=True)
class Change:
    """What a plan does to one resource.

    `fields` differ from the inactive configuration, `active_fields` from the running one. `spec` is the wanted spec,
    completed: names, MACs and defaults filled in, fields cleared that the manifest lost. `uuid` is the object's,
    chosen beforehand for one to be made. `blocked` says why nothing may be done although something should. `digest` is
    that of manifest and host where they agree. `owner` is another project that owns the object.
    `moved_from` is the address whose object this is, to be renamed first. What is `suspended` is left alone.
    `former` are remainders that were applied before: what they say, and the manifest does not say any more, goes.
    What is `unknown` can be seen, and decided, after others have changed. `held` are digests of differences that were
    applied before and remained: they are not applied again. A network that `plugs_in` has running machines to plug in
    again once it is started. `checksum` is that of the content which was reviewed, where its manifest has none. What is
    `interrupted` was made by a run that was cut off, and is made once more. What `orphans` releases something that
    stays on the host (the object, or a machine's state); what `returns` makes such a thing the project's again.
    `builds` says how the storage of a pool is made before it is started. What `copies` another volume was that one, in
    another pool: its data is copied, and machines are moved to it. What is replaced `stops` the machine first that has
    it, as its `stop` says; a machine whose disks are `remade` so is started again after that.
    """

    id: ResourceId
    action: Action
    reason: str = ""
    fields: tuple[FieldChange, ...] = ()
    active_fields: tuple[FieldChange, ...] = ()
    desired: Resource | None = None
    observed: Observed | None = None
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    spec: Any = None
    uuid: str = ""
    blocked: str = ""
    hint: str = ""
    needs: frozenset[ResourceId] = field(default_factory=frozenset)
    digest: str = ""
    unknown: bool = False
    owner: str = ""
    moved_from: ResourceId | None = None
    suspended: bool = False
    former: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    plugs_in: bool = False
    checksum: str = ""
    interrupted: bool = False
    orphans: bool = False
    returns: bool = False
    builds: str = ""
    copies: ResourceId | None = None
    stops: ResourceId | None = None
    stop: Stop = field(default_factory=Stop)
    remade: bool = False

    @property
    def will(self) -> str:
        """What happens to it, in words."""
        said: str = self.action.value.will
        gone = self.action is Action.FORGET and self.observed is None
        # nothing stays of what is not there
        return said.partition(";")[0] if gone else said

    @property
    def disrupts(self) -> bool:
        """Whether a running guest is stopped for this, or something is deleted, or formatted whatever it holds."""
        if self.destroys or self.shrinks or self.restarts or self.builds == "overwrite":
            return True
        return self.action is Action.UPDATE and self.running and self.spec.status() == "stopped"

    @property
    def destroys(self) -> bool:
        """Whether what there is goes, to be created again or not."""
        return self.action in (Action.DELETE, Action.REPLACE)

    @property
    def shrinks(self) -> bool:
        """Whether what holds data becomes smaller than it is."""
        return self.action is Action.UPDATE and self.spec is not None and self.spec.cut_off(self.fields)

    @property
    def agrees(self) -> bool:
        """Whether the object is there, and all of it is as it should be."""
        nothing = self.action is Action.NOOP and not (self.fields or self.active_fields or self.reason)
        return nothing and self.desired is not None and self.observed is not None

    @property
    def is_renamed(self) -> bool:
        """Whether the object has its old name yet."""
        return self.moved_from is not None and self.observed is not None and self.observed.id != self.id

    def waits(self, why: str) -> Change:
        """Nothing is done now, and that is nobody's fault."""
        return replace(self, action=Action.NOOP, fields=(), active_fields=(), reason=why)

    def saying(self, *told: str) -> Change:
        """Say these beside its reason."""
        return replace(self, reason="; ".join(filter(None, (self.reason, *told))))

    @property
    def running(self) -> bool:
        return self.observed is not None and self.observed.running

    @property
    def live(self) -> tuple[FieldChange, ...]:
        """What is changed in the running object."""
        return tuple(f for f in self.active_fields if f.effect <= Effect.LIVE)

    @property
    def waiting(self) -> tuple[FieldChange, ...]:
        """What the running object takes on with its next start."""
        return tuple(f for f in self.active_fields if f.effect is Effect.RESTART)

    @property
    def restarts(self) -> bool:
        """Whether the running object is restarted for this change, because its lifecycle allows it."""
        for_it = self.running and (self.moved_from is not None or self.remade)
        return (bool(self.waiting) or for_it) and self.lifecycle.restart == "now"

    def if_restarted(self) -> Change:
        """Blocked, where it takes a restart that its lifecycle refuses."""
        if self.blocked or not self.waiting or self.lifecycle.restart != "never":
            return self
        names = ", ".join(f.where for f in self.waiting)
        why = f"lifecycle.restart: never refuses a restart, which {names} would take"
        return replace(self, action=Action.UPDATE, blocked=why, hint="stop it first")

    @property
    def effect(self) -> Effect:
        return max((f.effect for f in self.fields), default=Effect.NONE)

    @property
    def shown(self) -> tuple[FieldChange, ...]:
        """Every field that this change touches, once."""
        known = {f.path for f in self.fields}
        live_only = (f for f in self.active_fields if f.path not in known)
        return (*self.fields, *(f for f in live_only if f.effect <= Effect.LIVE or self.restarts))
