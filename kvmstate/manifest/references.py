"""What holds between documents: names are unique, references lead somewhere and never in a circle, files exist."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from kvmstate.errors import Problem
from kvmstate.kind import Reference, references
from kvmstate.kinds import undeclared
from kvmstate.manifest import rules
from kvmstate.manifest.manifests import Loaded
from kvmstate.manifest.reach import HINT, Reach
from kvmstate.manifest.variables import Unvalued
from kvmstate.model.field import LocalFile
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.xmlbind import Binding, Later, Section, bindings, owned


def check(
    loaded: Sequence[Loaded], problems: list[Problem], reach: Reach | None = None
) -> tuple[tuple[Resource, Reference], ...]:
    """Adds what is wrong to `problems`; the answer is the references to what is not in the manifests."""
    known: dict[ResourceId, Loaded] = {}
    for item in loaded:
        first = known.setdefault(item.resource.id, item)
        if first is not item:
            problems.append(_twice(item, first))
    outgoing = {id: list(references(item.resource.spec)) for id, item in known.items()}
    problems += _cycles(known, outgoing)
    problems += _refused(known, outgoing)
    problems += _macs(known.values())
    problems += Unvalued(known, outgoing).problems()
    problems += rules.check(known.values())
    for item in loaded:
        section = type(item.resource.spec)
        if issubclass(section, Section) and _names_files(section):
            problems += _files(item, reach)
    return tuple((known[id].resource, ref) for id, refs in outgoing.items() for ref in undeclared(refs, known))


def _twice(item: Loaded, first: Loaded) -> Problem:
    message = f"{item.resource.id} is declared twice: here and at {first.address()}"
    return item.problem(message, ())


def _cycles(known: dict[ResourceId, Loaded], outgoing: dict[ResourceId, list[Reference]]) -> Iterator[Problem]:
    """Each circle once, at its first member by address. Iterative: chains may be long."""
    done: set[ResourceId] = set()
    for start in sorted(known):
        trail: list[ResourceId] = []
        stack = [(start, iter(outgoing[start]))] if start not in done else []
        while stack:
            id, refs = stack[-1]
            if not trail or trail[-1] != id:
                trail.append(id)
            for ref in refs:
                if ref.target in trail:
                    circle = trail[trail.index(ref.target) :]
                    yield _cycle(circle, known, outgoing)
                elif ref.target in known and ref.target not in done:
                    stack.append((ref.target, iter(outgoing[ref.target])))
                    break
            else:
                done.add(id)
                trail.pop()
                stack.pop()


def _cycle(
    circle: list[ResourceId], known: dict[ResourceId, Loaded], outgoing: dict[ResourceId, list[Reference]]
) -> Problem:
    turn = circle.index(min(circle))
    ring = [*circle[turn:], *circle[:turn]]
    after = ring[1] if len(ring) > 1 else ring[0]
    path = next(ref.path for ref in outgoing[ring[0]] if ref.target == after)
    chain = " -> ".join(map(str, [*ring, ring[0]]))
    return known[ring[0]].problem(f"these refer to each other in a circle: {chain}", path)


def _refused(known: dict[ResourceId, Loaded], outgoing: dict[ResourceId, list[Reference]]) -> Iterator[Problem]:
    for id_, refs in outgoing.items():
        for ref in refs:
            if ref.target in known and (
                fault := known[ref.target].resource.spec.refuses(known[id_].resource.spec, ref.path)
            ):
                yield known[id_].fault(fault)


def _macs(items: Iterable[Loaded]) -> Iterator[Problem]:
    """Two machines with one address on one network, or bridge, take each other's packets while both run. Imported ones
    may be as they are."""
    seen: dict[tuple[str, str], list[tuple[Loaded, tuple[str | int, ...]]]] = defaultdict(list)
    for item in items:
        for plug in item.resource.spec.plugs() if item.resource.spec.runs else ():
            if plug.mac and (plug.network or plug.bridge):
                place = f"network {plug.network}" if plug.network else f"bridge {plug.bridge}"
                seen[place, plug.mac].append((item, (*plug.path, "mac")))
    for (place, mac), ((first, path), *others) in seen.items():
        for item, other in others:
            imported = item.resource.spec.remainder and first.resource.spec.remainder
            if item is not first and not imported:
                where = f"{first.resource.id} at {first.address(path)}"
                yield item.problem(f"the MAC address {mac} is also that of {where}, on {place}", other)


@cache
def _names_files(section: type[Section]) -> bool:
    """Whether a field of it, or of what it holds, names a local file: most do not, and need no search."""
    infos = section.model_fields.values()
    if any(isinstance(mark, LocalFile) for info in infos for mark in info.metadata):
        return True
    below = (each for b in bindings(section) for each in b.holding if not issubclass(each, Later))
    return any(map(_names_files, below))


def _files(item: Loaded, reach: Reach | None) -> Iterator[Problem]:
    """Local files are within reach, exist and can be read; their paths become absolute."""
    for section, name, path in _naming_files(item.resource.spec, ()):
        value = getattr(section, name)
        absolute = os.path.abspath(item.source.folder / value)
        setattr(section, name, absolute)
        if reach and (why := reach.refused(absolute)):
            yield item.problem(f"{value}: {why}", path, HINT)
        elif problem := unreadable(absolute):
            hint = "" if os.path.isabs(value) else "relative paths start at the manifest's folder"
            yield item.problem(f"{value}: {problem}", path, hint)


def local_files(spec: object) -> Iterator[str]:
    """The local files that a spec names."""
    if isinstance(spec, Section) and _names_files(type(spec)):
        for section, name, _ in _naming_files(spec, ()):
            yield getattr(section, name)


def _naming_files(section: Section, at: tuple[str | int, ...]) -> Iterator[tuple[Section, str, tuple[str | int, ...]]]:
    """Each field that names a local file: what it is in, its name there, and its path in the spec."""
    for b in owned(section, _leading_to_files):
        value: object = getattr(section, b.name)
        path = (*at, b.alias)
        if isinstance(value, Section):
            yield from _naming_files(value, path)
        elif isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, Section):
                    yield from _naming_files(child, (*path, index))
        elif value is not None and any(not mark.into for mark in marks(type(section), b.name)):
            yield section, b.name, path


@cache
def _leading_to_files(section: type[Section]) -> tuple[Binding, ...]:
    return tuple(b for b in bindings(section) if b.local or b.below(_names_files))


def marks(section: type[Section], name: str) -> list[LocalFile]:
    return [mark for mark in section.model_fields[name].metadata if isinstance(mark, LocalFile)]


def unreadable(path: str) -> str:
    if not os.path.exists(path):
        return "no such file"
    if not os.path.isfile(path):
        return "not a regular file"
    return "" if os.access(path, os.R_OK) else "the file cannot be read"
