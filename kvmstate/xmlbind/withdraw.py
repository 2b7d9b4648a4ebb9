"""What was in a remainder and is no longer: it is taken out of the document, as a removed field is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lxml import etree

from kvmstate.xmlbind.remainder import (
    Difference,
    alike,
    brief,
    contained,
    groups,
    label,
    matched,
    shown,
    text_of,
    told_apart,
)

# What makes the object what it is: libvirt takes none without these, or takes it for another one.
_ESSENTIAL = ("@type", "name", "uuid", "os/type")


def withdraw(
    before: etree._Element, node: etree._Element, stays: Sequence[etree._Element], at: tuple[str, ...] = ()
) -> Iterator[Difference]:
    """Take out of `node` what `before` says; not what any of `stays` says in the same place. Yields what goes, as it is
    taken: where it was, None, and what stood there.

    An element that says something itself goes whole, with what libvirt has added to it. One that only holds others
    loses those, and goes when nothing is left. What cannot be told for sure stays.
    """
    for name, _ in shown(before):
        here = (*at, f"@{name}")
        if name in node.attrib and "/".join(here) not in _ESSENTIAL and not any(name in each.attrib for each in stays):
            yield here, None, str(node.attrib.pop(name))
    if text_of(before) and text_of(node) and not any(map(text_of, stays)):
        yield at, None, text_of(node)
        node.text = None
    for befores, seens in list(groups(before, node)):
        beside = [_counterparts(befores, [child for child in each if child.tag == befores[0].tag]) for each in stays]
        for number, (child, found) in enumerate(zip(befores, _counterparts(befores, seens), strict=True)):
            here = (*at, label(child, len(befores) > 1))
            if found is None or "/".join(here) in _ESSENTIAL:
                continue
            staying = [one for each in beside if (one := each[number]) is not None]
            if staying or (len(child) and not child.attrib and not text_of(child)):
                yield from withdraw(child, found, staying, here)
                if staying or len(found) or found.attrib or text_of(found):
                    continue
            else:
                yield here, None, brief(found)
            node.remove(found)


def _counterparts(wants: list[etree._Element], seens: list[etree._Element]) -> list[etree._Element | None]:
    """For each the one that is the same thing: by content, of which either may have less by now, else by key, else as
    the only one, if no key tells them apart."""
    found: list[etree._Element | None] = [None] * len(wants)
    for fits in (contained, lambda want, seen: contained(seen, want), alike):
        free = [seen for seen in seens if seen not in found]
        rest = iter(matched([want for want, at in zip(wants, found, strict=True) if at is None], free, fits))
        found = [next(rest) if at is None else at for at in found]
    if found == [None] and len(seens) == 1 and not told_apart(wants[0], seens[0]):
        return list(seens)
    return found
