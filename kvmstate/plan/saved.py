"""A plan as a file: what was shown is what is applied, or nothing is.

The file holds what the plan was made from (the manifests' resources, the project's record of them, what the host was
seen to be) and a digest of each change. `restored` looks at the host again and plans from the same manifests: anything
that moved since, or a change that would be another one, makes the plan stale.

Of secrets it has hashes, by the key of the host: whoever reads it learns none. `restored` takes those that are to be
written from the manifests.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel

from kvmstate import __version__
from kvmstate.errors import PlanError
from kvmstate.host import Host
from kvmstate.kind import Kind
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Change, FieldChange
from kvmstate.model.identity import Identity
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Metadata, Move, Observed, Origin, Resource, ResourceId
from kvmstate.model.rollout import Rollout
from kvmstate.model.untrusted import DAMAGE, expect, from_json
from kvmstate.plan import uploads, versions
from kvmstate.plan.planner import WRITES, Options, make_plan
from kvmstate.plan.unseal import with_secrets
from kvmstate.xmlbind import Hide, by_hash, diff, is_sealed, sealed, sealed_fields, sealed_xml, without

FORMAT_VERSION = "1.0"
KIND = "SavedPlan"
_AGAIN = "make a new plan: `kvmstate plan --out FILE`"


@dataclass(frozen=True)
class Moved:
    """Why a plan is stale: what is no longer as it was seen, as `old -> new` where fields tell."""

    id: ResourceId
    what: str
    fields: tuple[FieldChange, ...] = ()


class Stale(PlanError):
    """The host or the project's record has moved on since the plan was made."""

    def __init__(self, moved: Sequence[Moved]) -> None:
        self.moved = tuple(moved)
        names = ", ".join(str(m.id) for m in moved)
        super().__init__(f"this plan is stale, and nothing was done: {names} changed since it was made", _AGAIN)


@dataclass(frozen=True)
class SavedPlan:
    """The content of the file, with everything still as JSON but for its resources."""

    project: str
    host: str
    host_id: str
    prune: bool
    resources: tuple[Resource, ...]
    record: Mapping[str, object]
    observed: Mapping[str, Any]
    uuids: Mapping[str, str]
    changes: Mapping[str, str]
    left_out: tuple[ResourceId, ...]
    moves: tuple[Move, ...]
    uploads: Mapping[str, Any]
    nameless: bool
    rollout: Rollout
    identity: Identity | None
    recorded: Identity | None

    @property
    def has_secrets(self) -> bool:
        """Whether any of its resources has one."""
        return any(is_sealed(resource.written) for resource in self.resources)

    @property
    def options(self) -> Options:
        """The options as the plan was made; deletions were counted then."""
        return Options(
            self.prune,
            allow_empty=True,
            max_deletes=sys.maxsize,
            moves=self.moves,
            nameless=self.nameless,
            rollout=self.rollout,
        )


def saved(
    plan: Plan,
    host: Host,
    inventory: Inventory,
    options: Options,
    policies: Iterable[Resource] = (),
    whose: tuple[Identity | None, Identity | None] = (None, None),
) -> dict[str, Any]:
    """The plan as JSON, with the policies that count when it is carried out, and `whose` record it was made
    for and found. Raises PlanError when a file that it uploads cannot be read, HostError when its secrets cannot be
    made hashes of."""
    hide = host.sealing.hide
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "kvmstate_version": __version__,
        "project": plan.project,
        "host": plan.host,
        "host_id": host.identity,
        "prune": options.prune,
        "nameless": options.nameless,
        "rollout": options.rollout.model_dump(),
        "whose": [one and asdict(one) for one in whose],
        "resources": [
            *(_dumped(policy, hide) for policy in policies),
            *(_dumped(c.desired, hide) for c in plan.changes if c.desired),
        ],
        "record": {str(c.id): _record(inventory.get(c.moved_from or c.id), hide) for c in plan.changes},
        "observed": {str(c.id): _seen(c.observed, hide) for c in plan.changes},
        "uuids": {str(c.id): c.uuid for c in plan.changes if c.uuid and c.observed is None},
        "changes": {str(c.id): _digest(c, hide) for c in plan.changes},
        "left_out": [str(id_) for id_ in plan.left_out],
        "moved": {str(move.old): str(move.new) for move in versions.renames(options.moves)}
        | {str(c.moved_from): str(c.id) for c in plan.changes if c.moved_from},
        "uploads": {str(c.id): noted for c in plan.changes if (noted := uploads.noted(c))},
    }


def is_saved(head: str) -> bool:
    """Whether a file that begins so is a plan, saved or printed, and no manifest."""
    return head.lstrip().startswith("{") and '"format_version"' in head


def read(text: str, name: str) -> SavedPlan:
    """Read a saved plan. Raises PlanError for anything but a whole plan that this version saved."""
    try:
        content = from_json(text)
    except ValueError as error:
        raise PlanError(f"{name} is not a whole plan: {error}", _AGAIN) from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise PlanError(f"{name} is not a saved plan", "`plan --json` is for reading; `plan --out FILE` saves a plan")
    made_by = content.get("kvmstate_version"), content.get("format_version")
    if made_by != (__version__, FORMAT_VERSION):
        raise PlanError(f"{name} was made by kvmstate {made_by[0]}, and this is {__version__}", _AGAIN)
    try:
        return SavedPlan(
            expect(content["project"], str),
            expect(content["host"], str),
            expect(content["host_id"], str),
            expect(content["prune"], bool),
            tuple(map(_loaded, content["resources"])),
            expect(content["record"], dict),
            {address: _was_seen(value) for address, value in content["observed"].items()},
            dict(zip(content["uuids"], expect(list(content["uuids"].values()), list, str), strict=True)),
            dict(zip(content["changes"], expect(list(content["changes"].values()), list, str), strict=True)),
            tuple(map(ResourceId.parse, content["left_out"])),
            tuple(Move(ResourceId.parse(old), ResourceId.parse(new)) for old, new in content["moved"].items()),
            {address: {**known, "digest": str(known["digest"])} for address, known in content["uploads"].items()},
            content["nameless"],
            Rollout.model_validate(content["rollout"]),
            *(one and Identity(**one) for one in content["whose"]),
        )
    except DAMAGE as error:
        raise PlanError(f"{name} is damaged ({type(error).__name__}: {error})", _AGAIN) from None


def restored(
    plan: SavedPlan,
    host: Host,
    inventory: Inventory,
    recorded: Identity | None = None,
    manifests: Callable[[], Sequence[Resource]] = lambda: (),
) -> Plan:
    """The plan, exactly as it was shown. Secrets that it writes are those of `manifests`, which are read only then.
    Raises PlanError for another host, or where the manifests do not have them; Stale when anything moved."""
    if host.identity != plan.host_id:
        raise PlanError(f"this plan was made for the host {plan.host}, not for {host.uri}", _AGAIN)
    if recorded not in (plan.recorded, plan.identity):
        raise PlanError(
            f"this plan is stale, and nothing was done: since it was made, what project {plan.project} owns belongs to "
            "another project of this name, or another environment",
            _AGAIN,
        )
    known = {ResourceId.parse(address) for address in plan.changes}
    named = known | {move.old for move in plan.moves}
    entries, orphans = (
        {id_: entry for id_, entry in part.items() if id_ in named} for part in (inventory.entries, inventory.orphans)
    )
    owned, hide = Inventory(plan.project, entries, orphans), host.sealing.hide
    owned = versions.renamed(owned, plan.moves, {move.new for move in plan.moves})
    made = make_plan(host, plan.resources, owned, plan.options)
    if _without_secrets(made):
        # what templates make of them as well
        whole, _ = versions.resolved(host, manifests(), owned)
        made = make_plan(host, _with_secrets(plan, host, whole), owned, plan.options)
    if needy := _without_secrets(made):
        raise PlanError(
            f"this plan has hashes of secrets, and those of {needy[0]} are not the manifests': nothing was done",
            "say where the manifests are that it was made from: `kvmstate apply FILE MANIFESTS...`; if they have other "
            f"secrets by now, {_AGAIN}",
        )
    changes = tuple(replace(c, uuid=plan.uuids.get(str(c.id), c.uuid)) for c in made.changes)
    moved = [
        m for change in changes if (m := _moved(plan, change, inventory.get(change.moved_from or change.id), hide))
    ]
    moved += [Moved(id_, "is gone") for id_ in sorted(known - {change.id for change in changes})]
    if moved:
        raise Stale(moved)
    return replace(made, changes=tuple(_as_reviewed(plan, c) for c in changes), left_out=plan.left_out)


def _without_secrets(made: Plan) -> list[ResourceId]:
    """What would be written with hashes in place of secrets."""
    return [c.id for c in made.changes if c.action in WRITES and c.desired and is_sealed(c.desired.written)]


def _with_secrets(plan: SavedPlan, host: Host, manifests: Iterable[Resource]) -> list[Resource]:
    """Its resources, each with the secrets of its own manifest."""
    seal, by_id = host.sealing.made(), {resource.id: resource for resource in manifests}
    found = []
    for resource in plan.resources:
        own = by_id.get(resource.id)
        known = by_hash(own.written, seal, BY_WORD[own.id.kind].sections) if own else {}
        found.append(with_secrets(resource, known))
    return found


def _as_reviewed(plan: SavedPlan, change: Change) -> Change:
    """What it uploads is looked at once more on its way: it may be written to until then."""
    known = plan.uploads.get(str(change.id))
    return replace(change, checksum=uploads.checksum(known)) if known else change


def _moved(plan: SavedPlan, change: Change, entry: Entry | None, hide: Hide) -> Moved | None:
    address, kind = str(change.id), BY_WORD[change.id.kind]
    before, now = plan.observed.get(address), _seen(change.observed, hide)
    if change.observed is None or now is None:
        if before is not None:
            return Moved(change.id, "no longer exists on the host")
    elif before is None:
        return Moved(change.id, "now exists on the host")
    elif before["uuid"] != now["uuid"]:
        return Moved(change.id, "is another object of this name")
    elif (was := _steady(kind, before)) != (now := _steady(kind, now)):
        parts = ("xml", "active_xml", "calls")
        then, since = (replace(change.observed, **{part: at[part] for part in parts}) for at in (was, now))
        fields = tuple(_differences(then, since))
        return Moved(change.id, "" if fields else "its XML differs where no field tells", fields)
    if plan.record.get(address) != _record(entry, hide):
        return Moved(change.id, "was applied, adopted or released by another run")
    if plan.changes.get(address) != _digest(change, hide):
        if change.blocked:
            return Moved(change.id, f"is blocked now: {change.blocked}")
        return Moved(change.id, "would be changed otherwise now: something that it refers to is another")
    known, path = plan.uploads.get(address), uploads.uploaded(change)
    if path and (known is None or not uploads.same(path, known)):
        return Moved(change.id, f"the file {path} has another content now")
    return None


def _differences(then: Observed, now: Observed) -> list[FieldChange]:
    """Fields of the configuration; where that is the same, of what runs."""
    for old, new in ((then.config, now.config), (then.active, now.active)):
        if old is None or new is None:
            continue
        found = {f.path: f for f in diff(new, old)}
        gone = {f.path: replace(f, old=f.new, new=f.old) for f in diff(old, new)}
        if found or gone:
            return list({**gone, **found}.values())
    return []


def _was_seen(value: Any) -> dict[str, object] | None:
    """What `_seen` made. Raises KeyError and TypeError."""
    if value is None:
        return None
    for part in ("uuid", "xml"):
        expect(value[part], str)
    expect(value["active_xml"], (str, type(None)))
    expect(value["calls"], dict)
    return dict(value)


def _seen(observed: Observed | None, hide: Hide) -> dict[str, Any] | None:
    if observed is None:
        return None
    running = observed.active_xml
    return {
        "uuid": observed.uuid,
        "xml": sealed_xml(observed.xml, hide),
        "active_xml": running and sealed_xml(running, hide),
        "calls": dict(observed.calls),
    }


def _steady(kind: Kind, seen: Mapping[str, Any]) -> dict[str, Any]:
    """All of it, but what changes on its own."""
    xml = {part: without(seen[part], kind.says.volatile) if seen[part] else None for part in ("xml", "active_xml")}
    return {**seen, **xml}


def _record(entry: Entry | None, hide: Hide) -> object:
    """As JSON has it. What was seen to agree since (`digest`) changes nothing."""
    if entry is None:
        return None
    lifecycle = entry.lifecycle.model_dump(mode="json", exclude_unset=True)
    specs = [sealed(spec, hide, BY_WORD[entry.id.kind].sections) for spec in entry.specs]
    return json.loads(json.dumps([entry.uuid, specs, lifecycle, entry.incomplete]))


def _digest(change: Change, hide: Hide) -> str:
    fields = [sealed_fields(part, hide) for part in (change.fields, change.active_fields)]
    uuid = change.uuid if change.observed is None else ""
    said = [change.action.name, bool(change.blocked), change.reason, uuid, sorted(map(str, change.needs)), fields]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


def _dumped(resource: Resource, hide: Hide) -> dict[str, object]:
    parts: dict[str, BaseModel] = {"metadata": resource.metadata, "lifecycle": resource.lifecycle}
    dumped = {name: part.model_dump(mode="json", exclude_unset=True) for name, part in parts.items()}
    spec = sealed(resource.written, hide, BY_WORD[resource.id.kind].sections)
    return {"id": str(resource.id), **dumped, "spec": spec, "origin": asdict(resource.origin)}


def _loaded(value: dict[str, Any]) -> Resource:
    id_ = ResourceId.parse(value["id"])
    return Resource(
        id_,
        BY_WORD[id_.kind].read(value["spec"]),
        Metadata.model_validate(value["metadata"]),
        Lifecycle.model_validate(value["lifecycle"]),
        Origin(**value["origin"]),
    )
