"""Who writes to which image, where a plan would bring about what destroys it: two machines that write to one image, or
one that writes to what a layer lies on. What is on the host like that already, and stays as it is, is a note."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from kvmstate.errors import NotFound, Unseen
from kvmstate.host import Host, domains, pools, volumes
from kvmstate.host.uses import Layer
from kvmstate.kind import Declaration
from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.plan.compare import applied_specs
from kvmstate.snapshots.chain import SUFFIX, image_of, overlays
from kvmstate.snapshots.files import WRITTEN
from kvmstate.xmlbind import disk_source, document

# Whoever writes to an image is a machine
MACHINE = "domain"
MAKES = (Action.CREATE, Action.REPLACE)
# The resource, the path of its field, what is wrong, and what to do
Told = tuple[Resource, tuple[str | int, ...], str, str]
Naming = Callable[[object], str]


class Use(NamedTuple):
    """A disk that is written to. `place` is its path in the manifest."""

    machine: str
    image: str
    shareable: bool
    place: tuple[str | int, ...] = ()

    def clashes(self, other: Use) -> bool:
        return not (self.shareable and other.shareable)


def brought_about(
    host: Host,
    desired: Mapping[ResourceId, Resource],
    changes: Mapping[ResourceId, Change],
    inventory: Inventory,
    moved: Collection[ResourceId],
) -> list[Told]:
    """What these changes would newly share; machines that have `moved` have another name by now. What was applied
    before, and has gone, may come back. The host is looked at only when a disk or a layer comes."""
    before = {
        id_: specs[0]
        for id_, change in changes.items()
        if change.action in MAKES and (specs := applied_specs(BY_WORD[id_.kind], inventory.get(id_)))
    }
    layers = [
        change
        for id_, change in changes.items()
        if change.action in MAKES and (below := _backing(change.desired)) and below != _layer(before.get(id_))
    ]
    if not layers and not any(_may_come(change) for change in changes.values()):
        return []
    name = _naming(host, desired)
    coming = {
        id_: found for id_, change in sorted(changes.items()) if (found := _coming(change, before.get(id_), name))
    }
    back = {
        id_: [use for use in _uses(id_.name, change.desired.spec, name) if use not in coming.get(id_, ())]
        for id_, change in changes.items()
        if change.desired and change.observed is None and id_ in before and _may_come(change)
    }
    if not layers and not coming and not any(back.values()):
        return []
    settled = [use for use in _declared(desired, name) if use not in coming.get(ResourceId(MACHINE, use.machine), ())]
    gone = {*moved, *(id_ for id_, change in changes.items() if change.action is Action.DELETE and not change.blocked)}
    writing, bases = _of_others(host, {id_.name for id_ in {*desired, *gone} if id_.kind == MACHINE}, name)
    settled += writing
    told = list(_twice(desired, coming, settled))
    everywhere = [*settled, *(use for uses in coming.values() for use in uses)]
    told += _below_new_layers(layers, everywhere, name)
    layered = _layered(host, changes, gone, name, _images(coming))
    told += _on_layered(desired, coming, {image: layered[image] | bases[image] for image in _images(coming)})
    # of a machine that has gone, an overlay that nobody declares may hold what it wrote last
    known = {id_ for id_ in changes if BY_WORD[id_.kind].parent}
    told += _on_layered(desired, back, _layered(host, {}, {*gone, *known}, name, _images(back)))
    return told


def _images(uses: Mapping[ResourceId, list[Use]]) -> set[str]:
    return {use.image for each in uses.values() for use in each}


def notes(desired: Mapping[ResourceId, Resource], told: Collection[Told]) -> Iterator[str]:
    """What is declared like that, and was not told."""
    known = {resource.id.name for resource, *_ in told}
    users: dict[str, list[Use]] = defaultdict(list)
    for use in _declared(desired, str):
        users[use.image].append(use)
    for image, uses in sorted(users.items()):
        machines = sorted({use.machine for use in uses})
        if len(uses) > 1 and any(use.clashes(uses[0]) for use in uses) and not known & {*machines}:
            who = f"virtual machines {', '.join(machines)}" if len(machines) > 1 else f"two disks of {machines[0]}"
            yield f"{who} write to {image}, which destroys what it holds once both do"


def _twice(
    desired: Mapping[ResourceId, Resource], coming: Mapping[ResourceId, list[Use]], settled: list[Use]
) -> Iterator[Told]:
    users: dict[str, list[Use]] = defaultdict(list)
    for use in settled:
        users[use.image].append(use)
    for id_, uses in coming.items():
        for use in uses:
            others = sorted({other.machine for other in users[use.image] if use.clashes(other)})
            users[use.image].append(use)
            if others:
                who = f"virtual machine {', '.join(others)}" if others != [id_.name] else "another disk of this machine"
                yield (
                    desired[id_],
                    use.place,
                    f"{who} writes to {use.image}, too: two that write to one image destroy what it holds",
                    "give each its own volume (a layer: `backing`), make one `readOnly`, or say `shareable: true` of "
                    "both disks for guests that agree on who writes" + _renamed(others, desired),
                )


def _renamed(machines: list[str], desired: Mapping[ResourceId, Resource]) -> str:
    strange = [machine for machine in machines if ResourceId(MACHINE, machine) not in desired]
    return f"; if it was called {strange[0]} before, write `moved` into kvmstate.yaml" if strange else ""


def _on_layered(
    desired: Mapping[ResourceId, Resource], coming: Mapping[ResourceId, list[Use]], layered: Mapping[str, set[str]]
) -> Iterator[Told]:
    for id_, uses in coming.items():
        for use in uses:
            if above := layered.get(use.image):
                yield (
                    desired[id_],
                    use.place,
                    f"{', '.join(sorted(above))} is a layer over {use.image}, which must not be written to",
                    "give the machine a layer of its own (a volume with `backing`), or make the disk `readOnly`; what "
                    "an overlay holds of a machine that has gone, `qemu-img commit` writes down",
                )


def _below_new_layers(layers: list[Change], uses: list[Use], name: Naming) -> Iterator[Told]:
    for change in layers:
        below = name(_backing(change.desired))
        if writing := sorted({use.machine for use in uses if use.image == below}):
            assert change.desired is not None
            yield (
                change.desired,
                ("backing",),
                f"virtual machine {', '.join(writing)} writes to {below}: that destroys a layer over it",
                "have the layer be over a volume that nobody writes to, or make those disks `readOnly`",
            )


def _naming(host: Host, desired: Mapping[ResourceId, Resource]) -> Naming:
    """How an image is called here, whether a manifest names the volume or the file: `volume pool/name`, or its path.
    What is one file, by whatever links or pools, has one name: the first that is asked for."""
    folders: dict[str, str] = {}
    for id_, resource in desired.items():
        if path := resource.spec.place():
            folders[path] = id_.name
    where = {pool: folder for folder, pool in (*folders.items(), *host.lookup.files.folders.items())}
    called: dict[str, str] = {}

    def place(image: Any) -> str:
        """Its path, where its pool is known."""
        if isinstance(image, str):
            return posixpath.normpath(image)
        return posixpath.join(where[image.pool], image.name) if image.pool in where else ""

    def words(image: object) -> str:
        if not isinstance(image, str):
            return f"volume {image}"
        path = posixpath.normpath(image)
        folder, file = posixpath.split(path)
        said = host.lookup.called(host.lookup.before_snapshots(path))
        return f"volume {folders[folder]}/{file}" if said == path and folder in folders else said

    def name(image: object) -> str:
        said, path = words(image), place(image)
        keys = [said, *(host.uses.names(path) if path else ())]
        found = next((called[key] for key in keys if key in called), said)
        called.update(dict.fromkeys(keys, found))
        return found

    host.uses.see(place(image.image) for r in desired.values() for image in r.spec.images() if not image.layer)
    return name


def _declared(desired: Mapping[ResourceId, Resource], name: Naming) -> Iterator[Use]:
    for id_, resource in desired.items():
        yield from _uses(id_.name, resource.spec, name)


def _uses(machine: str, spec: Declaration | None, name: Naming) -> Iterator[Use]:
    for image in spec.images() if spec else ():
        if image.writes:
            yield Use(machine, name(image.image), image.shareable, image.path)


def _may_come(change: Change) -> bool:
    if change.desired is None or change.blocked or not (change.fields or change.action in MAKES):
        return False
    images = [image for image in change.desired.spec.images() if image.writes]
    return bool(images) and (
        change.action in MAKES or bool({f.path[0] for f in change.fields} & {image.path[0] for image in images})
    )


def _coming(change: Change, before: Any, name: Naming) -> list[Use]:
    """The disks that a machine does not write to yet, or not without sharing them; nor did `before`, if it has gone."""
    if not _may_come(change) or change.desired is None:
        return []
    seen = change.observed.config if change.observed else before
    known = Counter((use.image, use.shareable) for use in _uses(change.id.name, seen, name))
    found = []
    for use in _uses(change.id.name, change.desired.spec, name):
        if known[use.image, use.shareable]:
            known[use.image, use.shareable] -= 1
        else:
            found.append(use)
    return found


def _of_others(host: Host, but: Collection[str], name: Naming) -> tuple[list[Use], dict[str, set[str]]]:
    """The disks of the domains that no manifest declares, as they are defined and as they run; and by image the layers
    over it that they have, also those that are in no pool."""
    found: set[Use] = set()
    bases: dict[str, set[str]] = defaultdict(set)
    for domain in domains.all_domains(host.connection):
        with suppress(NotFound):
            machine = domain.name
            for inactive in (True, False) if machine not in but else ():
                root = disk_source.locate(document(domains.xml(domain, inactive)), host.lookup.path_of)
                for disk in root.iterfind("devices/disk"):
                    source, driver = disk_source.read(disk), disk.find("driver")
                    if source is None or not (source.path or source.pool):
                        continue
                    image = host.lookup.before_snapshots(source.path)
                    with suppress(Unseen):
                        format_ = driver.get("type") if driver is not None and image == source.path else None
                        for below in islice(host.lookup.files.chain(image, format_), 1, None):
                            layer = host.lookup.called(image)
                            bases[name(below)].add(f"{layer} of virtual machine {machine}" if layer == image else layer)
                    if disk.get("device", "disk") == "disk" and disk.find("readonly") is None:
                        said = name(image) if image else f"volume {source.pool}/{source.volume}"
                        found.add(Use(machine, said, disk.find("shareable") is not None))
    return sorted(found, key=lambda use: (use.machine, use.image)), bases


def _layered(
    host: Host,
    changes: Mapping[ResourceId, Change],
    gone: Collection[ResourceId],
    name: Naming,
    images: Collection[str],
) -> dict[str, set[str]]:
    """By each of these images: the volumes that are layers over it, or will be, other than overlays of snapshots."""
    found: dict[str, set[str]] = defaultdict(set)
    made = set(gone)
    for id_, change in changes.items():
        if BY_WORD[id_.kind].parent and change.action in MAKES:
            made.add(id_)
            if (below := _backing(change.desired)) and id_ not in gone:
                found[name(below)].add(f"volume {id_.name}")
    passing = overlays(host) if images else set()
    for image in images:
        for layer in host.uses.layers_over(_path(host, image)):
            if layer.user.id not in made and layer.path not in passing and _counts(host, layer):
                found[image].add(f"{layer.user}")
    return found


def _path(host: Host, image: str) -> str:
    """Where an image is that is called so, if it is anywhere."""
    if image.startswith("/"):
        return image
    pool, _, volume = image.removeprefix("volume ").partition("/")
    if folder := host.lookup.files.folder_of(pool):
        return posixpath.join(folder, volume)
    return (host.lookup.path_of(pool, volume) or ("", ""))[1]


def _counts(host: Host, layer: Layer) -> bool:
    """An overlay that was made here, and holds nothing, is what a run that was cut off has left."""
    if not layer.path.endswith(SUFFIX):
        return True
    pool, _, volume = layer.user.id.name.partition("/")
    with suppress(NotFound, Unseen):
        return image_of(pool, volumes.find(pools.find(host.connection, pool), volume)).physical >= WRITTEN
    return True


def _backing(resource: Resource | None) -> object:
    return _layer(resource.spec) if resource else None


def _layer(spec: Declaration | None) -> object:
    """What it is a layer over."""
    return next((image.image for image in spec.images() if image.layer), None) if spec else None
