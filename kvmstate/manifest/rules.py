"""What libvirt would refuse of manifests that are well-formed, one by one and together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network

from kvmstate.errors import Problem
from kvmstate.kind import Claim
from kvmstate.kinds import BY_WORD, parent_of
from kvmstate.manifest.manifests import Loaded
from kvmstate.xmlbind import Binding, Section, bindings, owned

Path = tuple[str | int, ...]


def check(items: Iterable[Loaded]) -> Iterator[Problem]:
    """What does not work of each, and what two have that only one can have."""
    claims: list[tuple[Claim, Loaded]] = []
    loaded = {item.resource.id: item for item in items}
    for item in loaded.values():
        spec, id_ = item.resource.spec, item.resource.id
        form = BY_WORD[id_.kind].says
        if id_.name in form.given:
            yield item.problem(f"{id_.name} comes with libvirt, and stays as it is", (), "declare it by another name")
        if found := sorted({*form.unwritable} & {*id_.name}):
            why = f"{id_} cannot have {' '.join(found)} in its name: libvirt does not escape it"
            yield item.problem(why, (), "give it another name")
        if form.names and not re.fullmatch(form.names[0], id_.name):
            yield item.problem(f"{id_} cannot have this name: {form.names[1]}", ())
        for fault in spec.faults():
            yield item.fault(fault)
        above = parent_of(item.resource.id)
        if above in loaded and (place := loaded[above].resource.spec.keeps()):
            for fault in spec.misfits(place):
                yield item.fault(fault)
        if isinstance(spec, Section):
            yield from _same_keys(item, spec, ())
        claims += ((claim, item) for claim in spec.claims())
        if what := form.named(spec):
            claims.append((Claim((), what, id_.name), item))
    yield from _claimed_twice(claims)


def shown(items: Sequence[Loaded]) -> Iterator[Problem]:
    """Have who uses an encrypted image say how it is encrypted; what is wrong with that."""
    how = {item.resource.id.name: said for item in items if (said := item.resource.spec.encrypted())}
    for item in items if how else ():
        for fault in item.resource.spec.shown(lambda ref: how.get(str(ref))):
            yield item.fault(fault)


def _same_keys(item: Loaded, section: Section, at: Path) -> Iterator[Problem]:
    """Items of a list are told apart by their key: of two with one key, one would be lost."""
    for b in owned(section, _with_keys):
        value = getattr(section, b.name)
        if not value:
            continue
        if isinstance(value, Section):
            yield from _same_keys(item, value, (*at, b.alias))
        seen: dict[tuple[str, object], int] = {}
        for index, child in enumerate(value if isinstance(value, list) else ()):
            path = (*at, b.alias, index)
            for name in b.distinct(child):
                own = getattr(child, name)
                if own is not None and (first := seen.setdefault((name, own), index)) != index:
                    yield item.problem(f"{own} is used twice: here and in {b.alias}[{first}]", (*path, name))
            if isinstance(child, Section) and _with_keys(type(child)):
                yield from _same_keys(item, child, path)


@cache
def _with_keys(section: type[Section]) -> tuple[Binding, ...]:
    """The fields that are such lists, or hold some."""
    return tuple(b for b in bindings(section) if b.key or b.below(_with_keys))


def _claimed_twice(claims: list[tuple[Claim, Loaded]]) -> Iterator[Problem]:
    """Reported for the later one. Imported resources may be as they are on the host."""
    firsts: dict[str, tuple[Claim, Loaded]] = {}
    for claim, item in claims:
        if not isinstance(claim.value, str):
            continue
        first = firsts.setdefault(claim.value, (claim, item))
        shared = claim.what == first[0].what == "the host's bridge"
        if first[1] is not item and not shared and (problem := _conflict(first, (claim, item), "is also that of")):
            yield problem
    for family in (IPv4Network, IPv6Network):
        widest: tuple[Claim, Loaded] | None = None
        found = [(claim, item) for claim, item in claims if isinstance(claim.value, family)]
        for each in sorted(found, key=lambda found: (found[0].value.network_address, found[0].value.prefixlen)):  # type: ignore[union-attr]
            if widest and widest[0].value.overlaps(each[0].value):  # type: ignore[union-attr, arg-type]
                if widest[1] is not each[1] and (problem := _conflict(widest, each, "overlaps with that of")):
                    yield problem
            else:
                widest = each


def _conflict(first: tuple[Claim, Loaded], second: tuple[Claim, Loaded], how: str) -> Problem | None:
    if all(item.resource.spec.remainder for _, item in (first, second)):
        return None
    (one, item), (other, later) = sorted((first, second), key=lambda each: each[1].resource.id)
    message = f"{other.what} {other.value} {how} {item.resource.id} at {item.address(one.path)}"
    return later.problem(message, other.path, "take another one")
