"""What was written and a running object still has otherwise, also where no manifest says it any more.

What the manifest says is compared with what runs anyway. What has left it is not; so the record keeps the places that a
change has left to the next start (`Entry.pending`), and there what is defined is compared with what runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Change, FieldChange, Key, field_path
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed
from kvmstate.xmlbind import Section, diff, differences, document, read_overrides, said_below, without

# what changes by calls of its own
_CALLS = ("state", "autostart")


def places(change: Change, before: Entry | None, said: Callable[[], Sequence[Section]]) -> tuple[str, ...]:
    """Those that this change leaves to the next start, when it is done. Of what goes also all that was `said` of it
    when it was applied last: what comes in its place, such as libvirt's own, may lack only some of that."""
    if change.observed and change.observed.saved_xml and not change.restarts:
        known = before.pending if before else ()
        return tuple(dict.fromkeys([*known, *(f.where for f in change.fields if f.effect is Effect.RESTART)]))
    stays = change.running and not change.restarts and change.spec.runs
    if not stays:
        return ()
    paths = [f.path for f in change.waiting]
    if gone := [f.path for f in change.waiting if f.new is None]:
        # few changes take something out, and what was applied has to be parsed for them
        paths += [below for spec in said() for path in gone for below in said_below(spec, path)]
    found = [FieldChange(path, None, None, Effect.RESTART).where for path in paths]
    for place in before.pending if before else ():
        if any(_steps(place)[: len(f.path)] == _steps(f.where) for f in change.waiting):
            found.append(place)
    return tuple(dict.fromkeys(found))


def still(entry: Entry, change: Change) -> tuple[str, ...]:
    """Those of the entry's that still wait."""
    if change.observed and change.observed.saved_xml:
        return entry.pending
    waiting = [_steps(f.where) for f in change.waiting] if entry.pending else []
    return tuple(place for place in entry.pending if any(_meet(_steps(place), each) for each in waiting))


def put_off(entry: Entry, fields: Iterable[FieldChange], running: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """What of the running object differs: where a live change was tried and could not be made (what is defined is as it
    is wanted since), it waits for the next start."""
    new = {f.path for f in fields}
    known = [_steps(place) for place in entry.pending]

    def late(field: FieldChange) -> bool:
        tried = any(_meet(_steps(field.where), place) for place in known)
        return field.effect is Effect.LIVE and field.path[0] not in _CALLS and tried and field.path not in new

    return tuple(replace(f, effect=Effect.RESTART) if late(f) else f for f in running)


def waiting(entry: Entry, seen: Observed) -> Iterator[FieldChange]:
    """Where what runs differs from what is defined, at the places that were left to the next start."""
    if not entry.pending or seen.active_xml is None:
        return
    known = [_steps(place) for place in entry.pending]
    volatile = BY_WORD[seen.id.kind].says.volatile
    # what libvirt says of a thing only while it runs, and otherwise with each start, waits for nothing
    seen = replace(seen, xml=without(seen.xml, volatile), active_xml=without(seen.active_xml, volatile))
    for field in (*_fields(seen), *_overrides(entry, seen), *_remainder(entry, seen)):
        if any(_meet(_steps(field.where), place) for place in known):
            yield replace(field, effect=Effect.RESTART)
    for field in _gone(seen):
        # below what came, libvirt says more of what runs than anybody has defined
        if any(place[: len(field.path)] == _steps(field.where) for place in known):
            yield replace(field, effect=Effect.RESTART)


def beneath_saved(change: Change, resumed: Iterable[FieldChange]) -> Change:
    """The change of a machine that goes on from its saved memory, where these are not as they should be."""
    names = ", ".join(dict.fromkeys(f.where for f in resumed if f.path[0] not in _CALLS and f not in change.live))
    if not names or change.blocked:
        return change
    if change.restarts:
        return replace(change, reason=f"it goes on from its saved memory, and is restarted for {names}")
    reason = f"its saved memory has it as it was before: {names} waits until it has run on and stopped"
    return replace(change, reason=reason, hint="or give up what was saved: `virsh managedsave-remove`")


def _fields(seen: Observed) -> Iterator[FieldChange]:
    yield from diff(seen.config, seen.active)


def _gone(seen: Observed) -> Iterator[FieldChange]:
    """What runs, and is not defined any more."""
    come = {f.path for f in diff(seen.config, seen.active)}
    for f in diff(seen.active, seen.config):
        if f.path not in come:
            yield replace(f, old=f.new, new=f.old)


def _overrides(entry: Entry, seen: Observed) -> Iterator[FieldChange]:
    paths = {place[4:-1]: None for place in entry.pending if place.startswith("xml[")}
    if not paths or seen.active_xml is None:
        return
    defined, runs = (read_overrides(document(xml), dict(paths)) for xml in (seen.xml, seen.active_xml))
    for path in paths:
        if defined[path] != runs[path]:
            yield FieldChange(("xml", Key(path)), runs[path], defined[path], Effect.RESTART)


def _remainder(entry: Entry, seen: Observed) -> Iterator[FieldChange]:
    if seen.active_xml is None or not any(place.startswith("remainder[") for place in entry.pending):
        return
    defined, runs = document(seen.xml), document(seen.active_xml)
    for path, new, old in differences(defined, runs):
        yield FieldChange(("remainder", Key("/".join(path))), old, new, Effect.RESTART)
    for path, old, new in differences(runs, defined):
        if new is None:
            yield FieldChange(("remainder", Key("/".join(path))), old, None, Effect.RESTART)


def _steps(place: str) -> list[str]:
    """Of the remainder, without what tells siblings apart: what is one of several now, may have been alone before."""
    if place.startswith("remainder["):
        return ["remainder", *re.sub(r"\[[^\]]*\]", "", place[len("remainder[") : -1]).split("/")]
    return [place] if place.startswith("xml[") else field_path(place)


def _meet(one: list[str], other: list[str]) -> bool:
    """Whether one is the other, or above it."""
    return all(a == b for a, b in zip(one, other, strict=False))
