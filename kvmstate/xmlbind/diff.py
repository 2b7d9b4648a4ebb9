"""Comparing sections: only what the manifest owns, so that libvirt's own defaults are never drift."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, TypeVar

from lxml import etree

from kvmstate.model.change import FieldChange, Key
from kvmstate.model.effect import Effect
from kvmstate.model.reference import Unlocated
from kvmstate.xmlbind.binding import Binding, Only, Section, owned
from kvmstate.xmlbind.document import read
from kvmstate.xmlbind.exact import says_the_same
from kvmstate.xmlbind.overrides import is_secret

S = TypeVar("S", bound=Section)


def diff(want: Any, seen: object, active: object = None, at: tuple[str, ...] = ()) -> Iterator[FieldChange]:
    """What would have to change for `seen` to be as `want` says.

    `active` is the running configuration beside it: it bounds what can be changed live (`Scaling.limit`).
    """
    for b in owned(want):
        new, old, here = getattr(want, b.name), getattr(seen, b.name, None), (*at, b.alias)
        if new is None and b.xml and b.xml.lasting:
            continue
        if b.repeated and b.key:
            yield from _diff_items(b, new or [], old or [], active, here)
        elif b.holding and not b.repeated and new is not None and type(new) is type(old):
            yield from diff(new, old, getattr(active, b.name, None), here)
        elif b.xml and b.xml.in_parts and seen is not None:
            yield from _parts(b, new, old, getattr(active, b.name, None), here)
        elif b.one_or_more:
            yield from _diff_places(b, new, old or [], active, here)
        elif b.repeated and b.holding:
            if not _same_items(new or [], old or []):
                told = _in_words_of(new, old)
                yield FieldChange(here, old, told, b.effect.of(old, new), b.hides(old, new))
        elif b.of_paths and new is not None:
            before = old or {}
            for key in new:
                if new[key] != before.get(key):
                    cost, secret = b.effect.of(None, None), b.hides() or is_secret(key)
                    yield FieldChange((*here, Key(key)), before.get(key), new[key], cost, secret)
        elif not b.same(new, old) and not (_nothing(new) and _nothing(old)):
            # a section is asked itself, where its fields decide
            cost = b.effect.of(old, new, (new or old) if b.holding else want, active)
            if b.xml and b.xml.by_parts and isinstance(whole := new or old, Section):
                cost = max(_costs(whole), default=cost)
            yield FieldChange(here, old, new, cost, b.hides(old, new))


def _costs(section: Section) -> Iterator[Effect]:
    """Of what it says, should all of that come or go."""
    for b in owned(section):
        if not _nothing(value := getattr(section, b.name)):
            yield b.effect.of(None, None, value)


def _parts(
    b: Binding, new: Section | None, old: Section | None, active: object, here: tuple[str, ...]
) -> Iterator[FieldChange]:
    """The fields of a section that comes, or goes."""
    if new is not None:
        yield from diff(new, type(new).model_construct(), active, here)
        return
    if old is None:
        return
    for inner in owned(old):
        value, at = getattr(old, inner.name), (*here, inner.alias)
        if _nothing(value):
            continue
        if inner.repeated and inner.key:
            yield from _diff_items(inner, [], value, None, at)
        elif inner.xml and inner.xml.in_parts:
            yield from _parts(inner, None, value, None, at)
        else:
            yield FieldChange(at, value, None, inner.effect.of(value, None, old), inner.hides(value))


def _nothing(value: object) -> bool:
    """libvirt drops elements that say nothing, such as `<dns/>`, but for those that do by being there; so it does where
    all that a section says is that something is not there."""
    if isinstance(value, Section):
        told = [(b, getattr(value, b.name)) for b in owned(value)]
        return not value.bare and all(_nothing(each) or (each is False and b.same(each, None)) for b, each in told)
    return value is None or value == []


def _diff_items(
    b: Binding, new: list[object], old: list[object], active: object, here: tuple[str, ...]
) -> Iterator[FieldChange]:
    runs = getattr(active, b.name, None) or []
    news, olds, actives = ({b.item_key(i): i for i in items} for items in (new, old, runs))
    left = bool(b.xml and b.xml.open)
    for key in [*news, *(k for k in olds if k not in news and not left)]:
        at = (*here, Key(key))
        if key in news and key in olds and type(news[key]) is type(olds[key]):
            for found in diff(news[key], olds[key], actives.get(key), at):
                cost = b.effect.of(found.old, found.new) if b.xml and b.xml.throughout else found.effect
                yield replace(found, effect=cost)
        else:
            item = news.get(key) or olds.get(key)
            cost = b.effect.of(olds.get(key), news.get(key), item, active)
            yield FieldChange(at, olds.get(key), news.get(key), cost, b.hides())
    if len(olds) == len(old) or left:
        return
    # libvirt may have several of one key, of which `patch` keeps the last; an imported manifest may have them as well
    several = Counter(map(b.item_key, old)) - Counter(map(b.item_key, new))
    for item in old:
        if item is not olds[key := b.item_key(item)] and several[key]:
            yield FieldChange((*here, Key(key)), item, None, b.effect.of(item, None, item, active), b.hides())


def _diff_places(
    b: Binding, new: list[Any], old: list[Any], active: object, here: tuple[str, ...]
) -> Iterator[FieldChange]:
    """One of which there is no other is named without a list's index."""
    old = old[:1] if isinstance(new, Only) else old
    alone = len(new) <= 1 and len(old) <= 1
    present = (getattr(active, b.name, None) or [])[: max(len(new), len(old))]
    for index, (want, seen, runs) in enumerate(zip_longest(new, old, present)):
        at = here if alone else (*here, Key(str(index)))
        if want is not None and seen is not None:
            yield from diff(want, seen, runs, at)
        else:
            yield FieldChange(at, seen, want, b.effect.of(seen, want, want or seen, active), b.hides())


def _same_items(new: list[Section], old: list[Section]) -> bool:
    """Of items without a key: each has its own among those there, in their order where that counts."""
    left = [*old]
    for want in new:
        among = left[:1] if want.ordered else left
        found = next((index for index, seen in enumerate(among) if _same_item(want, seen)), None)
        if found is None:
            return False
        del left[found]
    return not left


def _same_item(want: Section, seen: Section) -> bool:
    if want.exact:
        return says_the_same(want, seen)
    return all(getattr(want, name) == getattr(seen, name) for name in want.model_fields_set)


def _in_words_of(new: list[Section] | None, old: list[Section] | None) -> list[Section] | None:
    """The items as they stand there already, where they say the same: what differs is seen then."""
    return new and [next((o for o in old or () if w.exact and says_the_same(w, o)), w) for w in new]


def with_cleared(want: S, last: Section | None, rest: etree._Element | None = None) -> S:
    """`want`, with what was applied before and has was removed from the manifest cleared: set to the field's default.

    Not what `rest`, XML beside the fields, says now.
    """
    if last is None or type(want) is not type(last):
        return want
    update: dict[str, object] = {}
    for b in owned(last):
        new, old = getattr(want, b.name), getattr(last, b.name)
        said = _said(b, rest) if rest is not None else None
        if b.of_paths and old is not None:
            # by key, whether others stay or the whole field has left
            if gone := {key: None for key in old if key not in (new or {})}:
                update[b.name] = {**(new or {}), **gone}
        elif b.name not in want.model_fields_set:
            if old is not None and old != b.default and said is None and not (b.xml and b.xml.lasting):
                update[b.name] = _as_given(want, b, old)
        elif b.repeated and (b.key or b.one_or_more) and new:
            update[b.name] = b.alike([with_cleared(item, before) for item, before in b.paired(new, old or [])], new)
        elif b.holding and not b.repeated and isinstance(new, Section):
            update[b.name] = with_cleared(new, old, said)
    return want.model_copy(update=update) if update else want


def _as_given(want: Section, b: Binding, old: Any) -> object:
    """What is left of a field that its manifest says no more: what a new object has."""
    if b.xml is None or not b.xml.given or getattr(want, "remainder", None):
        return b.alike(b.default, old)
    made: dict[str, object] = dict.fromkeys(old.model_fields_set) | dict.fromkeys(b.xml.given, True)
    return type(old).model_construct(_fields_set={*made}, **made)


def _said(b: Binding, rest: etree._Element) -> etree._Element | None:
    """The element in the XML beside the fields that says something of this one."""
    if b.xml is None or (found := b.find(rest)) is None:
        return None
    if b.repeated or (b.holding and not b.xml.shared):
        return found
    value = read(b, found, Unlocated())
    nothing = read(b, b.path.ensure(etree.Element(rest.tag)), Unlocated())
    return found if value is not None and value != nothing else None


def said_below(spec: Section, path: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The paths of all single values that a spec says below this one: of a section, or an item of a list."""
    for b in owned(spec):
        if path and b.alias != path[0]:
            continue
        value, rest = getattr(spec, b.name), path[1:]
        items = {(Key(b.item_key(item)),): item for item in value or ()} if b.repeated and b.key else {(): value}
        for key, item in items.items():
            if rest[: len(key)] not in ((), key):
                continue
            here = (b.alias, *key)
            if isinstance(item, Section):
                yield from ((*here, *below) for below in said_below(item, rest[len(key) :]))
            elif item is not None and not rest[len(key) :]:
                yield here


def leaving(want: S, seen: Section, path: Sequence[str]) -> S:
    """`want`, which no longer owns what is at `path` (names of fields, keys of items): there it is as `seen`."""
    name, *rest = path
    b = next((b for b in owned(want) if b.alias == name), None)
    if b is None:
        return want
    value, here = getattr(want, b.name), getattr(seen, b.name, None)
    if not rest:
        left = want.model_copy(update={b.name: here})
        left.model_fields_set.discard(b.name)
        return left
    if b.repeated and b.key:
        keyed, present = ({b.item_key(i): i for i in found or []} for found in (value, here))
        key, *inner = rest
        if key in keyed and key in present and inner:
            keyed[key] = leaving(keyed[key], present[key], inner)
        else:
            keyed.pop(key, None)
            keyed |= {key: present[key]} if key in present else {}
        return want.model_copy(update={b.name: list(keyed.values())})
    if b.one_or_more:
        # one alone has no number
        number, *inner = rest if rest[0].isdecimal() else ("0", *rest)
        if not inner:
            return leaving(want, seen, [name])
        pairs = enumerate(b.paired(value or [], here or []))
        items = [leaving(w, s, inner) if str(n) == number and s else w for n, (w, s) in pairs]
        return want.model_copy(update={b.name: b.alike(items, value)})
    if isinstance(value, Section) and isinstance(here, Section):
        return want.model_copy(update={b.name: leaving(value, here, rest)})
    return want
