"""Whether two sections say the same, in other words perhaps, and neither says anything besides."""

from __future__ import annotations

from kvmstate.xmlbind.binding import Binding, Section, bindings


def says_the_same(want: object, seen: object) -> bool:
    """`want` as a manifest says it, `seen` as it was read from XML; see `Xml.same`."""
    if not isinstance(want, Section) or type(want) is not type(seen):
        return want == seen
    section: type[Section] = type(want)
    return all(_same(b, getattr(want, b.name), getattr(seen, b.name)) for b in bindings(section))


def _same(b: Binding, want: object, seen: object) -> bool:
    if want in (None, [], {}) and seen in (None, [], {}):
        return True
    if b.sections and not (b.xml and b.xml.same):
        if b.repeated and isinstance(want, list) and isinstance(seen, list):
            return len(want) == len(seen) and all(map(says_the_same, want, seen))
        return says_the_same(want, seen)
    return b.same(want, seen)
