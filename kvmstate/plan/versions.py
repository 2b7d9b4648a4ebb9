"""Templates: which version is in force, and which one what is cloned from them is of.

A version is a set of volumes with a number. What it was built from (its recipe) stands in the record of each, and so
does what a clone was made from in that of the clone: a clone that was made stays what it is, whatever becomes of its
template. The manifests alone tell neither, so that this comes first in every plan.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kvmstate.errors import ManifestErrors, Problem
from kvmstate.host import Host
from kvmstate.kind import Cloned, Unclear, references
from kvmstate.kind.build import PRIVATE
from kvmstate.kinds import BY_WORD, ON_HOST, parent_of
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.pool_types import PoolType
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Lifecycle, Metadata, Move, Observed, Origin, Resource, ResourceId, Stop
from kvmstate.plan.compare import last_applied
from kvmstate.xmlbind import is_sealed

# The volume of a machine's disk: of this name, or its first one
Finder = Callable[[ResourceId, str | None], VolumeRef | None]
# What a record says of a version's volume, and of a clone
VERSION, CLONE = "versionOf", "template"
# What a record says of the domain that is kept of a version
DOMAIN = "domainOf"
# It holds nothing but what it was built from, and goes with its last clone
LIFECYCLE = Lifecycle(deletion="delete")


@dataclass
class Version:
    """One that the host has, or is to have: its volumes, by the disk that each is of."""

    number: int
    recipe: str
    volumes: dict[str, ResourceId] = field(default_factory=dict)
    incomplete: bool = False
    # not on record: the host has volumes that are called so
    found: bool = False

    @property
    def bases(self) -> dict[str, VolumeRef]:
        return {disk: VolumeRef.parse(id_.name) for disk, id_ in self.volumes.items()}


def recorded(inventory: Inventory) -> dict[str, dict[int, Version]]:
    """The versions that the project owns, by template and number."""
    found: dict[str, dict[int, Version]] = defaultdict(dict)
    for id_, entry in inventory.entries.items():
        if entry.specs and (said := entry.specs[-1].get(VERSION)):
            of: Any = said
            version = found[of["template"]].setdefault(of["number"], Version(of["number"], of["recipe"]))
            version.volumes[of["disk"]] = id_
            version.incomplete = version.incomplete or entry.incomplete
    return found


def in_force(
    host: Host, template: Resource, versions: Mapping[int, Version], disk: Finder
) -> tuple[Version, list[Resource]]:
    """The version of a template as it is declared, which may be there, and its volumes."""
    recipe, newest = template.spec.recipe(), max(versions, default=0)
    same = [number for number, each in versions.items() if _is_of(host, each, recipe)]
    # one that was never whole has no clones
    again = bool(newest) and versions[newest].incomplete
    number = max(same) if same else newest if again else newest + 1
    while versions and number > newest and _is_taken(host, template, number, disk):
        number += 1
    version = Version(number, recipe)
    known = versions[number].volumes if number in versions else {}
    volumes = dict(_volumes(template, number, known, recipe, disk))
    version.volumes |= {disk: each.id for disk, each in volumes.items()}
    return version, [*volumes.values()]


def _finder(host: Host, every: Mapping[ResourceId, Resource]) -> Finder:
    def disk(machine: ResourceId, name: str | None) -> VolumeRef | None:
        if declared := every.get(machine):
            found: VolumeRef | None = declared.spec.disk_volume(name)
            return found
        seen = BY_WORD[machine.kind].ops.observe(host, {machine.name}).get(machine.name)
        return seen.config.disk_volume(name) if isinstance(seen, Observed) else None

    return disk


def _is_of(host: Host, version: Version, recipe: str) -> bool:
    said = version.recipe
    return said in (recipe, recipe.removeprefix(PRIVATE)) or (
        recipe.startswith(PRIVATE) and host.sealing.match(recipe) == said
    )


def _volumes(
    template: Resource, number: int, known: Mapping[str, ResourceId], recipe: str, disk: Finder
) -> Iterator[tuple[str, Resource]]:
    """The volumes of a version by the disk that each is of; those that are `known` keep their names when the template
    gets another one."""
    for name, id_, said in template.spec.volumes(template.metadata.name, number, disk):
        id_, kind = known.get(name, id_), BY_WORD[id_.kind]
        said[VERSION] |= {"recipe": recipe}
        yield name, Resource(id_, kind.read(said), Metadata(name=kind.local_name(id_)), LIFECYCLE, _origin(template))


def _kept(template: Resource, version: Version) -> Resource | None:
    """The domain that is kept of a template. It has nothing to lose: when somebody has started it, nobody waits for its
    guest."""
    [kind] = (kind for kind in ON_HOST if kind.name == BY_WORD[template.id.kind].inherited_by)
    name = template.metadata.name
    said = template.spec.kept_machine(f"{name}@{version.number}", version.bases)
    if said is None:
        return None
    lifecycle = template.lifecycle.model_copy(update={"stop": Stop(timeout=1, on_timeout="destroy")})
    return Resource(ResourceId(kind.word, name), kind.read(said), Metadata(name=name), lifecycle, _origin(template))


def _is_taken(host: Host, template: Resource, number: int, disk: Finder) -> bool:
    """Whether somebody has a volume of the name that a new version would have."""
    ids = [id_ for _, id_, _ in template.spec.volumes(template.metadata.name, number, disk)]
    return any(id_.name in BY_WORD[id_.kind].ops.observe(host, {id_.name}) for id_ in ids)


def _found(host: Host, template: Resource, find: Finder) -> dict[int, Version]:
    """Versions that the host seems to have, of a template of which nothing is on record: that may have been lost. The
    last is taken for the one in force."""
    versions: dict[int, Version] = {}
    for disk, id_, _ in template.spec.volumes(template.metadata.name, 0, find):
        head, _, tail = id_.name.rpartition(f"{template.metadata.name}-v0")
        pattern = re.compile(rf"{re.escape(f'{head}{template.metadata.name}')}-v([1-9][0-9]*){re.escape(tail)}")
        for name in BY_WORD[id_.kind].ops.names(host):
            if match := pattern.fullmatch(name):
                version = versions.setdefault(int(match[1]), Version(int(match[1]), "", found=True))
                version.volumes[disk] = ResourceId(id_.kind, name)
    if versions:
        versions[max(versions)].recipe = template.spec.recipe()
    return versions


def renames(moves: Iterable[Move]) -> list[Move]:
    """Those of templates."""
    return [move for move in moves if BY_WORD[move.old.kind].inherited_by]


def renamed(inventory: Inventory, moves: Iterable[Move], declared: Collection[ResourceId]) -> Inventory:
    """The record as if templates that have another name by now had had it always."""
    there = recorded(inventory)
    onward = {
        move.old.name: move.new.name
        for move in renames(moves)
        if move.new in declared and move.old not in declared
        if move.old.name in there and move.new.name not in there
    }
    if not onward:
        return inventory

    def spec(said: Mapping[str, Any]) -> dict[str, Any]:
        made = {**said}
        if CLONE in made and (name := str(made[CLONE]).partition("@"))[0] in onward:
            made[CLONE] = "".join((onward[name[0]], *name[1:]))
        if VERSION in made and (old := made[VERSION][CLONE]) in onward:
            made[VERSION] = {**made[VERSION], CLONE: onward[old]}
        return made

    entries = {
        id_: entry
        if (specs := tuple(map(spec, entry.specs))) == entry.specs
        else replace(entry, specs=specs, digest="")
        for id_, entry in inventory.entries.items()
    }
    return replace(inventory, entries=entries)


def with_kept(moves: Collection[Move], resources: Iterable[Resource]) -> tuple[Move, ...]:
    """The moves, and those of the domains that are kept of templates which have moved."""
    templates = renames(moves)
    words = {each.id.kind for each in resources if each.origin.by and DOMAIN in each.written} if templates else set()
    own = (
        Move(ResourceId(word, move.old.name), ResourceId(word, move.new.name)) for word in words for move in templates
    )
    return (*moves, *own)


def resolved(
    host: Host, resources: Iterable[Resource], inventory: Inventory, moves: Iterable[Move] = ()
) -> tuple[list[Resource], Inventory]:
    """The resources with versions of the templates among them, and with clones of these in place of what names a
    template; and the record, without what clones that stand alone were made from, where that goes. Raises
    ManifestErrors for versions that are not there."""
    every = {each.id: each for each in resources}
    templates = {each.metadata.name: each for each in every.values() if each.spec.recipe()}
    if not templates and not any(each.spec.cloned() for each in every.values()):
        return [*every.values()], inventory
    inventory = renamed(inventory, moves, every.keys())
    known = recorded(inventory)
    current: dict[str, Version] = {}
    find, problems = _finder(host, every), list[Problem]()
    for name, template in templates.items():
        try:
            if name not in known:
                known[name] = _found(host, template, find)
            current[name], volumes = in_force(host, template, known[name], find)
        except Unclear as error:
            message = template.named(error.fault.message)
            problems.append(Problem(message, template.origin.file, template.origin.line, 0, "", error.fault.hint))
            continue
        if kept := _kept(template, current[name]):
            if other := every.get(kept.id):
                message = f"{kept.id} is the domain that {template.id} keeps (keepDomain)"
                hint = "give one of them another name"
                problems.append(Problem(message, other.origin.file, other.origin.line, 0, "", hint))
            volumes.append(kept)
        every |= {each.id: each for each in volumes}
    _as_applied(every, inventory)
    if problems:
        raise ManifestErrors(problems)
    made: list[ResourceId] = []
    for id_, resource in list(every.items()):
        if not (cloned := resource.spec.cloned()):
            continue
        if spec := _as_made(resource, cloned, _entry(inventory, id_)):
            every[id_] = replace(resource, spec=spec)
            made.append(id_)
            continue
        newest = current.get(cloned.template)
        if newest is None:
            problems.append(_undeclared(resource, cloned, templates))
            continue
        numbers = {**known.get(cloned.template, {}), newest.number: newest}
        if spec := _as_found(host, resource, cloned, numbers):
            every[id_] = replace(resource, spec=spec)
            continue
        version = numbers.get(cloned.number or newest.number)
        if version is None or cloned.disk not in version.volumes:
            problems.append(_missing(resource, cloned, version, numbers))
            continue
        base = version.volumes[cloned.disk]
        name = f"{cloned.template}@{version.number}"
        spec = resource.spec.clone_of(
            name, VolumeRef.parse(base.name), _place(host, id_, every), _place(host, base, every)
        )
        every[id_] = replace(resource, spec=spec)
    if problems:
        raise ManifestErrors(problems)
    every |= dict(_still_used(every, known, inventory, templates, find))
    return _standing_alone(every, made, inventory)


def _entry(inventory: Inventory, id_: ResourceId) -> Entry | None:
    """What the record says of it; also of what was left on the host, with what it holds."""
    left = inventory.orphans.get(id_) if BY_WORD[id_.kind].holds_data else None
    return inventory.get(id_) or left


def _as_applied(every: dict[ResourceId, Resource], inventory: Inventory) -> None:
    """What was made from a template has from it what it had when it was made, and uses what it used."""
    declared: dict[str, list[ResourceId]] = defaultdict(list)
    for each in every.values():
        if each.origin.by:
            declared[each.origin.by].append(each.id)
    for id_, resource in list(every.items()):
        entry = _entry(inventory, id_) if resource.own is not None else None
        if not entry or not entry.specs or resource.own is None or resource.written == entry.specs[-1]:
            continue
        if entry.incomplete and is_sealed(entry.specs[-1]):
            # what is not whole yet is made of what the record does not have
            continue
        spec = resource.spec.as_applied(resource.written, entry.specs[-1], resource.own)
        if spec is resource.spec:
            continue
        every[id_] = replace(resource, spec=spec)
        uses = {ref.target for ref in references(spec)}
        for inner in declared.get(str(id_), ()):
            if inner not in uses:
                del every[inner]
        for used in uses - every.keys():
            origin = Origin(resource.origin.file, resource.origin.line, str(id_))
            if (had := inventory.get(used)) and _is_inner(had) and (old := last_applied(had)):
                every[used] = replace(old, origin=origin)


def _is_inner(entry: Entry) -> bool:
    """Whether it was declared by a machine: a clone, or a seed."""
    said: Any = entry.specs[-1]
    return bool(said.get(CLONE) or not BY_WORD[entry.id.kind].read(said).holds_own())


def _as_made(resource: Resource, cloned: Cloned, entry: Entry | None) -> Any:
    """The spec of a clone that was made, as it was made; None where another template, or version, is wanted."""
    applied = entry.specs[-1] if entry and entry.specs else {}
    name, _, number = str(applied.get(CLONE, "")).partition("@")
    if name != cloned.template or cloned.number not in (None, int(number or 0)):
        return None
    return resource.spec.cloned_as(applied)


def _as_found(host: Host, resource: Resource, cloned: Cloned, versions: Mapping[int, Version]) -> Any:
    """The spec of a clone of which nothing is on record, as the host has it; None where it lies on no version."""
    if not any(each.found for each in versions.values()):
        return None
    seen = BY_WORD[resource.id.kind].ops.observe(host, {resource.id.name}).get(resource.id.name)
    below = seen.config.lies_on() if isinstance(seen, Observed) else None
    for number, version in versions.items():
        if below and version.volumes.get(cloned.disk) == ResourceId(resource.id.kind, str(below)):
            name = f"{cloned.template}@{number}"
            return (
                resource.spec.cloned_as({CLONE: name, "backing": str(below)})
                if cloned.number in (None, number)
                else None
            )
    return None


def _still_used(
    every: Mapping[ResourceId, Resource],
    known: Mapping[str, Mapping[int, Version]],
    inventory: Inventory,
    templates: Mapping[str, Resource],
    find: Finder,
) -> Iterator[tuple[ResourceId, Resource]]:
    """Older versions that layers lie on, as they were built."""
    bases = {ResourceId(id_.kind, str(ref)) for id_, r in every.items() if (ref := r.spec.lies_on())}
    for name, versions in known.items():
        for number, version in versions.items():
            if version.found and name in templates and bases & {*version.volumes.values()} - every.keys():
                made = _volumes(templates[name], number, version.volumes, version.recipe, find)
                yield from ((each.id, each) for _, each in made if each.id in bases and each.id not in every)
        for id_ in (id_ for version in versions.values() for id_ in version.volumes.values()):
            entry = inventory.get(id_)
            if id_ in bases and id_ not in every and name in templates and entry and (old := last_applied(entry)):
                yield id_, replace(old, origin=_origin(templates[name]))


def _standing_alone(
    every: dict[ResourceId, Resource], made: Iterable[ResourceId], inventory: Inventory
) -> tuple[list[Resource], Inventory]:
    """Full copies need not what they were copied from."""
    edited = {}
    for id_ in made:
        base, entry = every[id_].spec.copied_from(), _entry(inventory, id_)
        if base and entry and ResourceId(id_.kind, str(base)) not in every:
            every[id_] = replace(every[id_], spec=every[id_].spec.standing_alone())
            specs = tuple({k: v for k, v in spec.items() if k != "content"} for spec in entry.specs)
            edited[id_] = replace(entry, specs=specs)
    if edited:
        entries = {**inventory.entries, **{id_: e for id_, e in edited.items() if not e.orphaned}}
        left = {**inventory.orphans, **{id_: e for id_, e in edited.items() if e.orphaned}}
        inventory = replace(inventory, entries=entries, orphans=left)
    return [*every.values()], inventory


def _missing(resource: Resource, cloned: Cloned, version: Version | None, numbers: Mapping[int, Version]) -> Problem:
    if version is None:
        known = ", ".join(f"{cloned.template}@{number}" for number in sorted(numbers))
        message, hint = f"there is no version {cloned.number} of template {cloned.template}", f"there is {known}"
    else:
        message = f"{cloned.template}@{version.number} has no disk {cloned.disk}"
        hint = f"it has {', '.join(sorted(version.volumes))}"
    return Problem(resource.named(message), resource.origin.file, resource.origin.line, 0, "", hint)


def _undeclared(resource: Resource, cloned: Cloned, templates: Iterable[str]) -> Problem:
    names = sorted(templates)
    hint = f"templates are {', '.join(names)}" if names else "declare one: kind: Template"
    message = resource.named(f"there is no template {cloned.template}")
    return Problem(message, resource.origin.file, resource.origin.line, 0, "", hint)


def _place(host: Host, id_: ResourceId, every: Mapping[ResourceId, Resource]) -> PoolType | None:
    """How what a volume is in keeps it; None where nobody knows yet."""
    above = parent_of(id_)
    assert above
    declared = every[above].spec.keeps() if above in every else None
    return declared or host.lookup.files.type_of(above.name)


def _origin(template: Resource) -> Origin:
    return Origin(template.origin.file, template.origin.line, str(template.id))


def told(changes: Collection[Change], inventory: Inventory) -> Iterator[Change]:
    """Older versions say why they stay, and without --prune that they may go; a domain that is kept is stopped only
    where its template's lifecycle says so."""
    for change in changes:
        entry = inventory.get(change.id)
        if change.running and change.desired and (kept := change.desired.written.get(DOMAIN)):
            if change.lifecycle.restart != "now" and not change.blocked:
                why = f"it runs, and is kept of {kept} to be found: a clone is to be started"
                hint = f"`kvmstate vm poweroff {change.id.name}`; or lifecycle: {{restart: now}} of the template"
                change = replace(change, blocked=why, hint=hint)
            yield change
            continue
        if change.action is Action.ADOPT and change.blocked and change.desired and VERSION in change.desired.written:
            by = change.desired.origin.by
            hint = f"`kvmstate adopt` takes it for that version of {by}; else delete it, or give {by} another name"
            yield replace(change, hint=hint)
            continue
        if change.desired or not entry or not entry.specs or not (said := entry.specs[-1].get(VERSION)):
            yield change
            continue
        of: Any = said
        name = f"{of['template']}@{of['number']}"
        if change.action is Action.DELETE and change.blocked and change.observed:
            yield replace(change, action=Action.NOOP, reason=f"{name} stays: {change.blocked}", blocked="", hint="")
        elif change.action is Action.NOOP and change.observed:
            yield replace(change, reason=f"{name} is no longer in force: --prune deletes it, unless clones lie on it")
        else:
            yield change


@dataclass(frozen=True)
class Standing:
    """A version of a template, and what is cloned from it. `current`: new clones are of it. One without volumes is to
    be built. `domain` is the one that is kept of it."""

    template: str
    version: Version
    current: bool
    built: bool
    linked: tuple[ResourceId, ...]
    full: tuple[ResourceId, ...]
    domain: ResourceId | None = None

    @property
    def name(self) -> str:
        return f"{self.template}@{self.version.number}"

    @property
    def state(self) -> str:
        if self.version.incomplete:
            return "incomplete"
        if not self.built:
            return "to be built"
        return "in force" if self.current else "kept" if self.linked else "unused"


def standings(host: Host, resources: Iterable[Resource], inventory: Inventory) -> list[Standing]:
    """All versions that are there or are to be, by template and number."""
    known, every = recorded(inventory), {each.id: each for each in resources}
    current = {
        each.metadata.name: in_force(host, each, known.get(each.metadata.name, {}), _finder(host, every))[0]
        for each in every.values()
        if each.spec.recipe()
    }
    clones: dict[str, tuple[list[ResourceId], list[ResourceId]]] = defaultdict(lambda: ([], []))
    domains: dict[str, ResourceId] = {}
    for id_, entry in sorted(inventory.entries.items()):
        said: Any = entry.specs[-1] if entry.specs else {}
        if kept := said.get(DOMAIN):
            domains[kept] = id_
        if "@" in (of := str(said.get(CLONE, ""))):
            clones[of][0 if said.get("backing") else 1].append(id_)
    found = []
    for name in sorted({*known, *current}):
        newest = current.get(name)
        versions = {**({newest.number: newest} if newest else {}), **known.get(name, {})}
        for number, version in sorted(versions.items()):
            of = f"{name}@{number}"
            linked, full = clones[of]
            now = newest is not None and number == newest.number
            built = number in known.get(name, {})
            found.append(Standing(name, version, now, built, tuple(linked), tuple(full), domains.get(of)))
    return found


def notes(host: Host, resources: Iterable[Resource], inventory: Inventory) -> Iterator[str]:
    """How many clones each version has, of templates with several."""
    found: dict[str, list[Standing]] = defaultdict(list)
    for each in standings(host, resources, inventory):
        found[each.template].append(each)
    for name, versions in found.items():
        if len(versions) > 1:
            told = (f"@{each.version.number} ({each.state}) has {_count(each)}" for each in versions)
            yield f"template {name}: {', '.join(told)}"


def _count(each: Standing) -> str:
    counts = [f"{len(ids)} {word}" for ids, word in ((each.linked, "linked"), (each.full, "full")) if ids]
    many = len(each.linked) + len(each.full) > 1
    return f"{' and '.join(counts)} {'clones' if many else 'clone'}" if counts else "no clones"
