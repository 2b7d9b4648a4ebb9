"""Which other resources a spec names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from kvmstate.model.resource import Model, ResourceId
from kvmstate.xmlbind import Binding, Section, bindings, owned


@dataclass(frozen=True)
class Reference:
    """`path` of the field that names another resource, as positions in the manifest are kept."""

    path: tuple[str | int, ...]
    target: ResourceId


def references(spec: Model | None, at: tuple[str | int, ...] = ()) -> Iterator[Reference]:
    """Every resource that a spec names, by its `Ref` fields."""
    if not isinstance(spec, Section):
        return
    for b in owned(spec, referring):
        if not (value := getattr(spec, b.name)):
            continue
        if b.ref and isinstance(value, list):
            for index, each in enumerate(value):
                yield Reference((*at, b.alias, index), ResourceId(b.ref, str(each)))
        elif b.ref:
            yield Reference((*at, b.alias), ResourceId(b.ref, str(value)))
        elif b.holding and b.repeated:
            for index, item in enumerate(value):
                yield from references(item, (*at, b.alias, index))
        elif b.holding and isinstance(value, Section):
            yield from references(value, (*at, b.alias))


@cache
def referring(section: type[Section]) -> tuple[Binding, ...]:
    """The fields that name a resource, or hold sections with such fields: few of all."""
    return tuple(b for b in bindings(section) if b.ref or b.below(referring))
