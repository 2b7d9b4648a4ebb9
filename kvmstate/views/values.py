"""Values as JSON, without the secrets among them."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from kvmstate.model.change import FieldChange
from kvmstate.plan.texts import SENSITIVE, public
from kvmstate.xmlbind import Section, bindings, is_secret, owned


def plain(value: object, secret: bool = False) -> tuple[object, object]:
    """The value as JSON, and the same shape with true where something sensitive was taken out (false: nowhere)."""
    if value is None:
        return None, False
    if secret:
        return SENSITIVE, True
    if isinstance(value, Section):
        said = owned(value)
        return _joined({b.alias: plain(getattr(value, b.name), b.hides(getattr(value, b.name))) for b in said})
    if isinstance(value, dict):
        return _joined({key: plain(item, is_secret(key)) for key, item in value.items()})
    if isinstance(value, list):
        pairs = [plain(item) for item in value]
        marks = [mark for _, mark in pairs]
        return [item for item, _ in pairs], marks if any(marks) else False
    if isinstance(value, str) and "://" in value:
        told = public(value)
        return told, told != value
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value, False


def _joined(pairs: dict[str, tuple[object, object]]) -> tuple[dict[str, object], object]:
    return {k: item for k, (item, _) in pairs.items()}, {k: mark for k, (_, mark) in pairs.items() if mark} or False


def summary(spec: Section) -> dict[str, object]:
    """What a row of a table has room for: values as they are, of lists how many they have, and no sections."""
    told: dict[str, object] = {}
    for b in owned(spec):
        value = getattr(spec, b.name)
        if isinstance(value, list):
            told[b.alias] = len(value)
        elif value is not None and not isinstance(value, Section | dict):
            told[b.alias] = plain(value, b.hides(value))[0]
    return told


def overlaid(seen: object, want: object) -> object:
    """`seen` as it is once it is as `want` says: what the manifest does not own stays."""
    if not isinstance(seen, Section) or type(seen) is not type(want):
        return want
    update: dict[str, object] = {}
    for b in owned(want):
        new, old = getattr(want, b.name), getattr(seen, b.name)
        if new is None and b.xml and b.xml.lasting:
            continue
        if b.repeated and b.key:
            olds = {b.item_key(item): item for item in old or []}
            update[b.name] = [overlaid(olds.get(b.item_key(item)), item) for item in new or []]
        elif b.of_paths and new is not None:
            update[b.name] = {**(old or {}), **new}
        elif isinstance(new, Section):
            update[b.name] = overlaid(old, new)
        elif not b.same(new, old):
            update[b.name] = new
    return seen.model_copy(update=update)


def with_unseen(seen: object, want: object, fields: Iterable[FieldChange]) -> object:
    """`seen` with what no observation tells (overrides, content): as wanted, but for what `fields` says it was."""
    if not isinstance(seen, Section) or type(seen) is not type(want):
        return seen
    old = {field.path: field.old for field in fields}
    update: dict[str, object] = {}
    for b in owned(want):
        if b.xml is not None or b.name in seen.model_fields_set:
            continue
        value = getattr(want, b.name)
        if isinstance(value, dict):
            value = {key: old.get((b.alias, key), item) for key, item in value.items()}
        elif isinstance(value, Section):
            parts = bindings(type(value))
            value = value.model_copy(update={p.name: old[b.alias, p.alias] for p in parts if (b.alias, p.alias) in old})
        update[b.name] = old.get((b.alias,), value)
    return seen.model_copy(update=update)
