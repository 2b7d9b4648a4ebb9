"""One resource: wanted against observed and last applied, to a Change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from kvmstate.kind import Kind, Spec
from kvmstate.kind.compose import emptied, withdrawn
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change, FieldChange, Key, field_path
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry
from kvmstate.model.reference import Unlocated
from kvmstate.model.resource import Lifecycle, Metadata, Observed, Resource
from kvmstate.plan import pending, remained
from kvmstate.plan.unseal import seen_whole
from kvmstate.plan.whose import stranger
from kvmstate.xmlbind import (
    Binding,
    Hide,
    Xml,
    bindings,
    contained,
    diff,
    differences,
    document,
    is_secret,
    leaving,
    patch,
    read_overrides,
    with_cleared,
)


def applied_specs(kind: Kind, entry: Entry | None, resource: Resource | None = None) -> list[Spec]:
    """What was applied last (and begun since); where the manifest says the same, `resource`'s own spec. A record that
    this version cannot read counts for nothing."""
    found = []
    for spec in entry.specs if entry else ():
        if resource and spec == resource.written:
            found.append(resource.spec)
            continue
        try:
            found.append(kind.read(spec))
        except ValidationError:
            continue
    return found


def last_applied(entry: Entry) -> Resource | None:
    """The manifest that was applied last, as far as the host's record tells."""
    kind = BY_WORD[entry.id.kind]
    specs = applied_specs(kind, replace(entry, specs=entry.specs[:1]))
    metadata = Metadata(name=kind.local_name(entry.id))
    return Resource(entry.id, specs[0], metadata, entry.lifecycle) if specs else None


def compare(
    kind: Kind,
    resource: Resource,
    observed: Observed | None,
    entry: Entry | None,
    project: str,
    uuid: str,
    recreate: bool = False,
    hide: Hide = lambda secret: "",
) -> Change:
    """`recreate`: what held data and is gone may be made again, empty or from its content. `hide` makes hashes of
    secrets, see `kvmstate.plan.remained`; the entry's are known again by now, see `kvmstate.plan.unseal`."""
    spec = emptied(kind.complete(resource, observed, project))
    last = applied_specs(kind, entry, resource)
    for before in last:
        if before is not resource.spec:
            spec = with_cleared(spec, kind.complete(_as(resource, before), observed, project), spec.rest)
    common: dict[str, Any] = {
        "id": resource.id,
        "desired": resource,
        "lifecycle": resource.lifecycle,
        "spec": spec,
        "observed": observed,
    }
    if observed is None:
        reason = "it no longer exists on the host" if entry and not entry.incomplete else ""
        fields = tuple(diff(spec, None))
        made = Change(**common, action=Action.CREATE, fields=fields, uuid=uuid, reason=reason)
        if kind.holds_data and reason and not recreate:
            return _but(
                made,
                Action.CREATE,
                "it was there and is gone, with what it held",
                f"bring it back; `kvmstate recreate {resource.id.typed}` makes a new one, empty or from its content",
            )
        return made
    common["uuid"] = observed.uuid
    seen = seen_whole(resource, observed, last)
    if entry is None or (why := stranger(kind, entry, observed)):
        return Change(
            **common,
            action=Action.ADOPT,
            fields=tuple(diff(spec, _seen(spec, seen.config, seen, last))),
            blocked=why if entry else stranger(kind, None, observed),
            hint=f"`kvmstate adopt` takes ownership, or choose another name for {resource.id}",
        )
    # also where its manifest has given up what was to come into it
    if entry.incomplete and kind.holds_data and any(each.filling() for each in (spec, *last)):
        again = Change(**common, action=Action.REPLACE, reason="its upload was interrupted", interrupted=True)
        if not resource.lifecycle.prevent_destroy:
            return again
        why = "its upload was interrupted, and preventDestroy forbids making it again"
        return _but(again, Action.REPLACE, why, "take preventDestroy out, apply, and put it in again")
    config = _seen(spec, seen.config, seen, last)
    runs = seen.resumed
    active = _seen(spec, runs.active, runs, last, active=True)
    ignored = [field_path(path) for path in resource.lifecycle.ignore_changes]
    for path in ignored:
        spec = leaving(spec, config, path)
    left = _minus(_left(spec, last, seen.xml), ignored)
    beside = (*_minus(_remainder(spec, seen.xml), ignored), *left)
    fields = (
        *diff(spec, config, active),
        *beside,
        *_protection(entry.lifecycle, resource.lifecycle),
        *([] if observed.persistent else [FieldChange(("persistent",), False, True, Effect.LIVE)]),
    )
    active_fields = _minus(_running(spec, last, active, entry, runs, fields, beside), ignored) if active else ()
    common["spec"] = spec
    common["former"] = _former(spec, last) if left else ()
    active_fields = pending.put_off(entry, fields, active_fields)
    starts = observed.running or spec.runs
    change = Change(**common, action=Action.NOOP, fields=fields, active_fields=active_fields if starts else ())
    judged = remained.judged(entry, change, lambda change: _judged(kind, change), hide, config)
    return pending.beneath_saved(judged, active_fields) if observed.saved_xml else judged


def _as(resource: Resource, spec: Spec) -> Resource:
    return Resource(resource.id, spec, resource.metadata, resource.lifecycle, resource.origin)


def _seen(spec: Spec, seen: Any, observed: Observed, last: list[Spec], active: bool = False) -> Any:
    """What was observed, with what no observation tells: overrides by their paths, and what is only remembered."""
    xml = observed.active_xml if active else observed.xml
    if seen is None or xml is None:
        return None
    update: dict[str, Any] = {}
    if spec.xml:
        update["xml"] = read_overrides(document(xml), spec.xml)
        if not observed.has_secrets:
            update["xml"] |= _remembered(spec, last)
    for b in _told_otherwise(type(spec)):
        if b.name == "remainder":
            update[b.name] = spec.remainder
        elif b.xml and b.xml.passing and _has_passed(b, spec, xml, last):
            update[b.name] = getattr(spec, b.name)
        elif b.xml and b.xml.recorded and last:
            update[b.name] = getattr(last[0], b.name)
        elif (b.xml is None or b.xml.remembered) and b.name not in seen.model_fields_set:
            update[b.name] = getattr(last[-1], b.name, None) if last else getattr(spec, b.name)
    return seen.model_copy(update=update) if update else seen


@cache
def _told_otherwise(section: type[Spec]) -> tuple[Binding, ...]:
    """The fields of which what is in XML does not tell, or not alone, but for overrides: few of all."""
    return tuple(b for b in bindings(section) if (_not_alone(b.xml) if b.xml else b.name != "xml"))


def _not_alone(at: Xml) -> bool:
    return at.passing or at.recorded or at.remembered


def _has_passed(b: Binding, spec: Spec, xml: str, last: list[Spec]) -> bool:
    """Whether it was applied as it is wanted, and the host's XML has nothing in its place by now."""
    applied = bool(last) and all(getattr(before, b.name, None) == getattr(spec, b.name) for before in last)
    return applied and b.path.find(document(xml)) is None


def _running(
    spec: Spec,
    last: list[Spec],
    active: object,
    entry: Entry,
    observed: Observed,
    fields: tuple[FieldChange, ...],
    beside: tuple[FieldChange, ...],
) -> Iterator[FieldChange]:
    """Where what runs is not as it should be; `fields` are the differences of what is defined, and `beside` those of
    them to the remainder."""
    xml = observed.active_xml or observed.xml
    places = {f.path for f in beside}
    found = (*_remainder(spec, xml), *_left(spec, last, xml)) if places else ()
    known = {f.path: f for f in (*diff(spec, active, active), *(f for f in found if f.path in places))}
    yield from known.values()
    # where what is defined changes to what runs, nothing waits any more
    now = {f.path for f in fields if _is_one_value(f)}
    yield from (f for f in pending.waiting(entry, observed) if f.path not in known and f.path not in now)


def _is_one_value(field: FieldChange) -> bool:
    """Whether it is no more than that: of a section that comes back, nobody knows what the running one has besides."""
    place, *rest = field.path
    if place == "remainder":
        return "@" in str(rest[-1]).rpartition("/")[2]
    return all(value is None or isinstance(value, str | int | float) for value in (field.old, field.new))


def _protection(old: Lifecycle, new: Lifecycle) -> Iterator[FieldChange]:
    """What the host must know of a lifecycle, because it holds when the manifest has gone."""
    for name in ("prevent_destroy", "deletion", "storage", "wipe"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield FieldChange(("lifecycle", to_camel(name)), before, after, Effect.NONE)


def _remainder(spec: Spec, xml: str) -> Iterator[FieldChange]:
    """Where the remainder does not hold in what the host has; what fields say of the same XML counts more."""
    cost = next(b.effect for b in bindings(type(spec)) if b.name == "remainder")
    rest = spec.rest
    if rest is None or cost is Effect.NONE:
        return
    seen = document(xml)
    if contained(rest, seen):
        return
    places = {b.xml.path: b for b in bindings(type(spec)) if b.xml and not b.holding}
    want, have = (spec.settled(patch(node, spec, Unlocated())) for node in (rest, seen))
    for path, new, old in differences(want, have):
        where = "/".join(path)
        if where not in places or not places[where].same(new, old):
            yield FieldChange(("remainder", Key(where)), old, new, cost.of(old, new))


def _left(spec: Spec, last: list[Spec], xml: str) -> Iterator[FieldChange]:
    """What was in the remainder applied last, has left it, and is still on the host."""
    cost = next(b.effect for b in bindings(type(spec)) if b.name == "remainder")
    former = _former(spec, last) if cost is not Effect.NONE else ()
    for path, new, old in withdrawn(spec, former, document(xml)) if former else ():
        yield FieldChange(("remainder", Key("/".join(path))), old, new, cost.of(old, new))


def _former(spec: Spec, last: list[Spec]) -> tuple[str, ...]:
    return tuple(before.remainder for before in last if before.remainder and before.remainder != spec.remainder)


def _remembered(spec: Spec, last: list[Spec]) -> dict[str, str | None]:
    """Passwords as they were applied, where libvirt does not tell them."""
    before = {path: {applied.xml.get(path) for applied in last} for path in spec.xml if is_secret(path)}
    return {path: values.pop() if len(values) == 1 else None for path, values in before.items()}


def _minus(fields: Iterable[FieldChange], ignored: list[list[str]]) -> tuple[FieldChange, ...]:
    return tuple(f for f in fields if not any(list(f.path[: len(path)]) == path for path in ignored))


def _judged(kind: Kind, change: Change) -> Change:
    """The action, and whether the lifecycle allows it."""
    lifecycle, cost = change.lifecycle, change.effect
    if cost is Effect.REFUSED:
        refused = [f for f in change.fields if f.effect is Effect.REFUSED]
        if all(isinstance(f.old, int) for f in refused):
            why, hint = "cannot shrink: data would be lost", "make a smaller one beside it"
        else:
            why, hint = "cannot change: it is what libvirt knows it by", "take it out of the manifest"
        return _but(change, Action.UPDATE, f"{', '.join(f.where for f in refused)} {why}", hint)
    if cost is Effect.REPLACE:
        names = ", ".join(f.where for f in change.fields if f.effect is Effect.REPLACE)
        if lifecycle.replace != "allow":
            hint = "lifecycle.replace: allow permits it (what it holds is lost)" if kind.holds_data else ""
            return _but(
                change,
                Action.REPLACE,
                f"{names} cannot change without deleting it and creating it again",
                hint or "lifecycle.replace: allow permits it",
            )
        return _protected(change) if lifecycle.prevent_destroy else _but(change, Action.REPLACE)
    if (judged := change.if_restarted()).blocked:
        return judged
    if change.fields or change.live or change.restarts:
        return _but(change, Action.UPDATE)
    return change


def judged_again(kind: Kind, before: Change, change: Change) -> Change:
    """The change with other costs than it had before; what blocks it for another reason does so still."""
    if before.blocked and _judged(kind, replace(before, blocked="", hint="")).blocked != before.blocked:
        return change
    return _judged(kind, replace(change, blocked="", hint=""))


def _protected(change: Change) -> Change:
    return _but(change, Action.REPLACE, "preventDestroy forbids replacing it", "take preventDestroy out first")


def _but(change: Change, action: Action, blocked: str = "", hint: str = "") -> Change:
    return replace(change, action=action, blocked=blocked, hint=hint)


def removal(kind: Kind, entry: Entry, observed: Observed | None, prune: bool, destroys: bool = False) -> Change:
    """What happens to an owned object that was removed from the manifests, or is destroyed."""
    lifecycle: Lifecycle = entry.lifecycle
    common: dict[str, Any] = {"id": entry.id, "observed": observed, "lifecycle": lifecycle, "uuid": entry.uuid}
    if observed is None:
        return Change(
            **common, action=Action.FORGET, reason="it no longer exists on the host", orphans=_has_files(kind, entry)
        )
    if entry.id.name in kind.says.given:
        return Change(**common, action=Action.FORGET, reason="it comes with libvirt, and stays as it is")
    if why := stranger(kind, entry, observed):
        if entry.uuid or not kind.holds_data:
            return Change(**common, action=Action.FORGET, reason=why)
        return Change(**common, action=Action.DELETE, blocked=why, hint="`kvmstate adopt` says that it is this one")
    data, stays = ", with its data" if kind.holds_data else "", kind.deletion(lifecycle.deletion) == "orphan"
    if not prune:
        then = "releases it; it stays on the host" if stays else "deletes it"
        return Change(**common, action=Action.NOOP, reason=f"removed from the manifests; --prune {then}{data}")
    if stays:
        reason = f"{'' if destroys else 'removed from the manifests; '}deletion: orphan keeps it on the host{data}"
        return Change(**common, action=Action.FORGET, reason=reason, orphans=True)
    if lifecycle.prevent_destroy:
        return Change(
            **common,
            action=Action.DELETE,
            blocked="preventDestroy forbids deleting it",
            hint="take preventDestroy out of its manifest and apply, then remove it",
        )
    lost = f"its data is wiped ({lifecycle.wipe}) and deleted" if lifecycle.wipe else "its data is deleted"
    said = ("" if destroys else "removed from the manifests", lost if kind.holds_data else "")
    reason = "; ".join(filter(None, said))
    return Change(**common, action=Action.DELETE, reason=reason, orphans=_has_files(kind, entry))


def _has_files(kind: Kind, entry: Entry) -> bool:
    """Whether it leaves files behind that nothing but the record leads to."""
    return any(isinstance(image, str) for spec in entry.specs for image, _ in kind.says.images(entry.id.name, spec))
