"""What holds where a manifest says nothing: the defaults that its fields declare, said nowhere else."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from kvmstate.xmlbind.binding import Binding, Section, bindings

S = TypeVar("S", bound=Section)


def with_defaults(want: S, seen: object = None, whole: bool = True) -> S:
    """`want`, which owns the defaults that say something (not None, nor what is empty) as if it named them.

    A `lasting` one is for what is made only: what there is, as `seen` tells, has it, or has another one that stays.
    Of what is not the `whole`, as more of it stands beside it, only what is in no XML has defaults; sections below do.
    """
    update: dict[str, object] = {}
    owned = want.model_fields_set
    for b in _concerned(type(want)):
        if b.name not in owned:
            if b.holds and (whole or b.xml is None) and not (b.xml and b.xml.lasting and seen is not None):
                update[b.name] = getattr(want, b.name)
            continue
        value, here = getattr(want, b.name), getattr(seen, b.name, None)
        if b.repeated:
            items = [with_defaults(item, there) for item, there in b.paired(value or (), here or ())]
            if any(item is not before for item, before in zip(items, value or (), strict=True)):
                update[b.name] = b.alike(items, value)
        elif isinstance(value, Section):
            below = with_defaults(value, here if type(here) is type(value) else None)
            if below is not value:
                update[b.name] = below
    return want.model_copy(update=update) if update else want


@cache
def _concerned(section: type[Section]) -> tuple[Binding, ...]:
    """The fields that have such a default, or hold sections with some: few of all."""
    return tuple(b for b in bindings(section) if b.holds or b.below(_concerned))
