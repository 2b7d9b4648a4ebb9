"""A plan: every change, in an order in which they can be made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId


@dataclass(frozen=True)
class Plan:
    """`left_out` is what `--target` and `--exclude` keep out of a partial plan; `notes` are what people should know."""

    project: str
    host: str
    changes: tuple[Change, ...]
    left_out: tuple[ResourceId, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def todo(self) -> tuple[Change, ...]:
        """What apply acts on."""
        return tuple(c for c in self.changes if c.action is not Action.NOOP and not c.blocked)

    @cached_property
    def blocked(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.blocked)

    @cached_property
    def waiting(self) -> tuple[Change, ...]:
        """Resources that take something on with their next restart only, after this plan."""
        return tuple(
            c
            for c in self.changes
            if c.waiting and not c.restarts and not c.blocked and c.action in (Action.NOOP, Action.UPDATE)
        )

    @property
    def is_empty(self) -> bool:
        return not self.todo and not self.blocked

    def counts(self) -> Counter[str]:
        """add, change and destroy, as Terraform counts: a replacement is one of each."""
        return Counter(name for c in self.todo for name in c.action.value.counts)
