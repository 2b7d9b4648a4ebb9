"""Snapshots that were taken after another one, on a branch that a revert leaves: whether all of it can go."""

from __future__ import annotations

from kvmstate.errors import HostError, UsageError
from kvmstate.host import Host
from kvmstate.snapshots import files
from kvmstate.snapshots.chain import SUFFIX, Images, Machine, Snapshot, look
from kvmstate.snapshots.record import Record


def doomed(host: Host, domain: str, name: str) -> list[Snapshot]:
    """All that a snapshot's deletion with its children takes along but for itself, the last ones first.

    Raises NotFound, UsageError when others have taken one of them, and HostError when a file of theirs is needed.
    """
    machine = look(host, domain)
    found = _descendants(machine, machine.snapshot(name))
    for snapshot in found:
        if not _is_ours(snapshot):
            raise UsageError(
                f"{snapshot.of(domain)} was not taken by kvmstate, and is deleted only by its name",
                f"`kvmstate snapshot delete {domain} {snapshot.name}` first, if nobody needs it",
            )
    _check_unused(machine, found, Images(host))
    return found[::-1]


def _descendants(machine: Machine, of: Snapshot) -> list[Snapshot]:
    """Parents first, as a machine's snapshots are."""
    names, found = {of.name}, []
    for snapshot in machine.snapshots:
        if snapshot.parent in names:
            names.add(snapshot.name)
            found.append(snapshot)
    return found


def _is_ours(snapshot: Snapshot) -> bool:
    """By a policy's record, or by the overlays' names: internal ones tell nothing else of who took them."""
    named = bool(snapshot.overlays) and all(path.endswith(SUFFIX) for path in snapshot.overlays.values())
    return named or Record.read(snapshot.description) is not None


def _check_unused(machine: Machine, going: list[Snapshot], images: Images) -> None:
    """Raises HostError when somebody else needs a file that would go."""
    chains = [images.chain(disk.path, disk.format) for disk in machine.disks]
    own = {path for snapshot in going for path in (*snapshot.frozen.values(), *snapshot.overlays.values())}
    own |= {image.path for chain in chains for image in chain}
    own |= {image.path for image in files.leftovers(images, machine)}
    known = {f"volume {images.by_path[path].volume}" for path in own if path in images.by_path} | machine.own
    for snapshot in going:
        for path in (*snapshot.frozen.values(), snapshot.memory):
            if path and (others := images.users(path) - known):
                raise HostError(
                    f"{snapshot.of(machine.name)} cannot be deleted: {', '.join(sorted(others))} still needs {path}",
                    "see `kvmstate snapshot tree`",
                )
