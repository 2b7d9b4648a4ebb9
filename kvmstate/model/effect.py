"""What a change costs. Stands beside each field of a spec; the plan shows it, policies decide on it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvmstate.model.resource import camel


class Effect(enum.IntEnum):
    """Ordered by disruption, so that a change costs the maximum over its fields."""

    NONE = 0
    LIVE = 1
    RESTART = 2
    REPLACE = 3
    REFUSED = 4

    def of(self, old: object, new: object, want: object = None, active: object = None) -> Effect:
        """The cost of going from `old` to `new` in the section `want`, while `active` is what runs."""
        return self

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Scaling:
    """A cost that depends on direction: vCPUs are added to a running guest, but not taken away.

    `limit` names the sibling field whose value in the *running* configuration bounds growth: past it,
    growing costs what shrinking does, or `beyond`. `fixed` names a property of the section: where it is true nothing
    can be resized, and growing takes a replacement; and `shrinks` one where it is true that it may shrink, which costs
    what growing does.
    """

    grow: Effect
    shrink: Effect
    limit: str | None = None
    fixed: str | None = None
    beyond: Effect | None = None
    shrinks: str | None = None

    def of(self, old: object, new: Any, want: object = None, active: object = None) -> Effect:
        if old is None or new is None:
            return self.shrink
        limit = getattr(active, self.limit, None) if self.limit else None
        if limit is not None and new > max(limit, old):
            return self.shrink if self.beyond is None else self.beyond
        if new < old and not (self.shrinks and getattr(want, self.shrinks, False)):
            return self.shrink
        return Effect.REPLACE if self.fixed and getattr(want, self.fixed, False) else self.grow

    def __str__(self) -> str:
        bound = f" up to {self.limit}" if self.limit else ""
        if self.grow is self.shrink:
            return f"{self.grow}{bound}, beyond: {self.beyond}"
        other = f" or {Effect.REPLACE}" if self.fixed else ""
        return f"grow: {self.grow}{bound}{other}, shrink: {self.shrink}"


@dataclass(frozen=True)
class When:
    """A cost that depends on a sibling field (on a list: on a field of the item that comes or goes).

    The medium of a drive changes live, a disk's does not; a SATA disk is not hot-pluggable.
    """

    field: str
    values: tuple[object, ...]
    then: Effect
    otherwise: Effect

    def of(self, old: object, new: object, want: object = None, active: object = None) -> Effect:
        return self.then if getattr(want, self.field, None) in self.values else self.otherwise

    @property
    def condition(self) -> str:
        named = ", ".join(str(value) for value in self.values if value is not None)
        return f"with {camel(self.field)} {named}" if named else f"without {camel(self.field)}"

    def __str__(self) -> str:
        return f"{self.then} {self.condition}, else {self.otherwise}"


@dataclass(frozen=True)
class Given:
    """A cost that depends on whether there is a value: what runs can be given one, or another, but cannot lose it. Or,
    with `first`, it can be given another one, but not the first."""

    set: Effect
    unset: Effect
    first: Effect | None = None

    def of(self, old: object, new: object, want: object = None, active: object = None) -> Effect:
        if new is None:
            return self.unset
        return self.set if old is not None or self.first is None else self.first

    def __str__(self) -> str:
        others = {"taken out": self.unset, "where there was none": self.first}
        return ", ".join(
            [str(self.set), *(f"{when}: {cost}" for when, cost in others.items() if cost not in (None, self.set))]
        )


@dataclass(frozen=True)
class Where:
    """A cost that depends on what runs: `holds` is asked of the section that is wanted (on a list: of the item that
    comes or goes) and of the running spec beside it, and `told` says it for people."""

    holds: Callable[[Any, Any], bool]
    told: str
    then: Effect
    otherwise: Effect

    def of(self, old: object, new: object, want: object = None, active: object = None) -> Effect:
        return self.then if self.holds(want, active) else self.otherwise

    def __str__(self) -> str:
        return f"{self.then} where {self.told}, else {self.otherwise}"


Cost = Effect | Scaling | When | Given | Where
