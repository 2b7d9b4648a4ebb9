"""Variables of network filters: no machine starts with one that nobody gives a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvmstate.errors import Problem
from kvmstate.kind import Reference
from kvmstate.manifest.manifests import Loaded
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import Section, bindings

# libvirt knows these itself
_KNOWN = frozenset(("IP", "MAC"))


class Unvalued:
    """What is missing of the manifests' filters, told at the interfaces that refer to them."""

    def __init__(self, known: Mapping[ResourceId, Loaded], outgoing: Mapping[ResourceId, Sequence[Reference]]) -> None:
        self._known, self._outgoing = known, outgoing
        self._variables = {id_: found for id_, item in known.items() if (found := item.resource.spec.variables())}

    def problems(self) -> Iterator[Problem]:
        for id_ in self._known if self._variables else ():
            for ref in self._outgoing[id_]:
                # a filter that only another one refers to gets its values from who refers to that
                missing = {} if ref.target.kind == id_.kind else dict.fromkeys(self._missing(id_, ref, _KNOWN, ()))
                for filter_, name in missing:
                    yield self._problem(id_, ref, f"nothing gives the variable {name} of {filter_} a value")

    def _missing(
        self, by: ResourceId, ref: Reference, given: frozenset[str], trail: tuple[ResourceId, ...]
    ) -> Iterator[tuple[ResourceId, str]]:
        given = given | _given(self._known[by].resource.spec, ref.path)
        yield from ((ref.target, name) for name in sorted(self._variables.get(ref.target, given) - given))
        for inner in self._outgoing.get(ref.target, ()):
            # a circle is told elsewhere
            if inner.target not in trail:
                yield from self._missing(ref.target, inner, given, (*trail, ref.target))

    def _problem(self, by: ResourceId, ref: Reference, message: str) -> Problem:
        target = self._known[ref.target]
        if target.resource.origin.by == str(by):
            return target.problem(message, (), "write the value into the rule: security groups have no parameters")
        return self._known[by].problem(message, ref.path, "say it in parameters")


def _given(spec: Any, path: tuple[str | int, ...]) -> frozenset[str]:
    """The variables that the section of a reference gives values."""
    for step in path[:-1]:
        if isinstance(step, int):
            spec = spec[step]
        else:
            section: type[Section] = type(spec)
            spec = getattr(spec, next(b.name for b in bindings(section) if b.alias == step))
    return frozenset(getattr(spec, "parameters", None) or ())
