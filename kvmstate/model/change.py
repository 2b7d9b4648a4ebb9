"""Changes: the difference between what should exist and what does, and what it costs."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from kvmstate.model.effect import Effect
from kvmstate.model.resource import Observed, Resource, ResourceId


class Action(enum.Enum):
    """What happens to a resource; the value is the symbol that a plan shows."""

    NOOP = " "
    CREATE = "+"
    UPDATE = "~"
    REPLACE = "-/+"
    DELETE = "-"
    ADOPT = "="
    FORGET = "."


@dataclass(frozen=True)
class FieldChange:
    """One difference. `path` is made of field names as manifests spell them, and keys of list items."""

    path: tuple[str, ...]
    old: Any
    new: Any
    effect: Effect
    sensitive: bool = False


@dataclass(frozen=True)
class Change:
    """What a plan does to one resource.

    `fields` differ from the inactive configuration and `pending` only from the active one: these wait for a
    restart (unless live). `blocked` says why nothing may be done although something should. `spec` is the wanted spec,
    completed: names, MACs and defaults filled in, fields that left the manifest cleared.
    """

    id: ResourceId
    action: Action
    reason: str = ""
    fields: tuple[FieldChange, ...] = ()
    pending: tuple[FieldChange, ...] = ()
    desired: Resource | None = None
    observed: Observed | None = None
    spec: Any = None
    blocked: str = ""
    hint: str = ""
    needs: frozenset[ResourceId] = field(default_factory=frozenset)

    @property
    def effect(self) -> Effect:
        return max((f.effect for f in self.fields), default=Effect.NONE)
