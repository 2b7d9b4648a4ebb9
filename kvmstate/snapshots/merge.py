"""Shorten chains: delete a snapshot by merging the writes since then into its files, or make an image stand alone.

QEMU moves the data, under the running guest, or for a machine that is off in a QEMU whose guest does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, domains, snapshots
from kvmstate.snapshots import dropped, files
from kvmstate.snapshots.chain import (
    SUFFIX,
    Disk,
    Images,
    Machine,
    Snapshot,
    lay,
    look,
    recovered,
    refuse_checkpoints,
    rewrite,
)
from kvmstate.snapshots.create import Progress, Say


class StillNeeded(HostError):
    """A snapshot's files are needed as they are; `branches` are the machine's other snapshots that need them."""

    def __init__(self, message: str, hint: str, branches: Iterable[str]) -> None:
        super().__init__(message, hint)
        self.branches = frozenset(branches)


def silent(*_: object) -> None:
    """Tells nobody."""


def delete(host: Host, domain: str, name: str, say: Say = silent, progress: Progress = silent) -> None:
    """Forget a snapshot; the machine's state and all other snapshots stay as they are. What was written since goes
    into the snapshot's files. Raises NotFound, StillNeeded when other branches need them as they are, HostError."""
    # a run may have died between merging and saying so
    machine = _mended(host, recovered(host, domain))
    snapshot = machine.snapshot(name)
    if not snapshot.external:
        snapshots.delete(snapshots.find(machine.domain, name), metadata_only=False)
        return
    refuse_checkpoints(machine)
    images = Images(host)
    # before a merge moves the chain away from below them
    files.sweep(host, images, machine, say)
    machine, images = look(host, domain), Images(host)
    todo = _commits(machine, snapshot, images)
    if todo:
        with _at_work(machine, say):
            for each in todo:
                say(str(each))
                target, active = each.disk.target, each.top == each.disk.path
                snapshots.settle_job(machine.domain, target)
                merged = partial(dropped.note, machine.domain, each.merged)
                snapshots.commit(machine.domain, target, each.base, each.top, active, partial(progress, target), merged)
        if _commits(_mended(host, look(host, domain)), snapshot, Images(host)):
            raise _incomplete(domain)
    _finish(host, domain, name, say, [path for each in todo for path in each.merged])


def delete_each(delete: Callable[[str], None], names: Iterable[str]) -> dict[str, StillNeeded]:
    """Delete as many of these as go: one that another branch builds on may go when that has gone. Returns those that
    must stay."""
    left = list(names)
    while left:
        held: dict[str, StillNeeded] = {}
        for name in left:
            try:
                delete(name)
            except StillNeeded as needed:
                held[name] = needed
        if len(held) == len(left):
            return held
        left = list(held)
    return {}


def merge(host: Host, domain: str, keep: int = 0, say: Say = silent, progress: Progress = silent) -> list[str]:
    """Delete the oldest external snapshots that the machine's state builds on, until so many are left. Returns the
    names of those deleted. Raises NotFound and HostError."""
    names = surplus(look(host, domain), keep)
    for name in names:
        delete(host, domain, name, say, progress)
    return names


def mergeable(host: Host, domain: str) -> None:
    """Check whether a merge of all would work. Raises what a merge of all would raise, as far as it can be told before;
    and NotFound."""
    foreseen(host, domain, surplus(look(host, domain), 0))


def surplus(machine: Machine, keep: int) -> list[str]:
    """The snapshots that a merge would delete, the oldest first."""
    found = [snapshot.name for snapshot in machine.lineage() if snapshot.external]
    return found[: max(0, len(found) - keep)]


def flatten(host: Host, domain: str, say: Say = silent, progress: Progress = silent) -> list[str]:
    """Copy into each disk's image what it has from the images below, so that it stands alone. Returns the targets of
    the disks that had any. Raises NotFound, and HostError for machines with external snapshots."""
    machine, todo = recovered(host, domain), layered(host, domain)
    if todo:
        with _at_work(machine, say):
            for disk in todo:
                say(f"copy what lies below into {disk.path}")
                snapshots.settle_job(machine.domain, disk.target)
                snapshots.pull(machine.domain, disk.target, partial(progress, disk.target))
        if layered(host, domain):
            raise _incomplete(domain)
    return [disk.target for disk in todo]


def layered(host: Host, domain: str) -> list[Disk]:
    """The disks that a flatten would work on; raises what it would raise."""
    machine, images = look(host, domain), Images(host)
    if outer := [snapshot.name for snapshot in machine.snapshots if snapshot.external]:
        raise HostError(
            f"{domain} has external snapshots ({', '.join(outer)}), whose files are its disks' chain",
            f"merge them first: `kvmstate snapshot merge {domain}`",
        )
    return [
        disk
        for disk in machine.disks
        if disk.is_file and disk.writable and disk.format == "qcow2" and images.known(disk.path).backing
    ]


def check(host: Host, domain: str, name: str) -> list[str]:
    """What a delete would merge, one line for a disk. Raises what it would raise."""
    machine = look(host, domain)
    snapshot = machine.snapshot(name)
    if not snapshot.external:
        return []
    refuse_checkpoints(machine)
    return [str(each) for each in _commits(machine, snapshot, Images(host))]


def foreseen(host: Host, domain: str, names: Sequence[str]) -> list[str]:
    """What deleting all of these would merge, as far as it can be told before the first is gone. Raises NotFound, and
    what `check` raises where others than these stand in the way."""
    lines: list[str] = []
    for name in names:
        try:
            found = check(host, domain, name)
        except StillNeeded as needed:
            if not needed.branches or not needed.branches <= {*names}:
                raise
        else:
            # the files of one may go into those of another
            lines += found if not lines else []
    return lines


@dataclass(frozen=True)
class Commit:
    """What goes into `base`: the files between it and what stays, the uppermost first."""

    disk: Disk
    base: str
    merged: tuple[str, ...]

    @property
    def top(self) -> str:
        return self.merged[0]

    def __str__(self) -> str:
        return f"merge {self.top} into {self.base}"


def _commits(machine: Machine, snapshot: Snapshot, images: Images) -> list[Commit]:
    """For each disk whose state builds on the snapshot: its file, and the overlay that goes into it."""
    todo = []
    by_target = {disk.target: disk for disk in machine.disks}
    left = {f"volume {image.volume}" for image in files.leftovers(images, machine)}
    waiting = files.forsaken(images, machine)
    for target, below in snapshot.frozen.items():
        if not files.of_disks(images, machine, below):
            # detached since: its files stay as they are
            continue
        for image in waiting:
            if below in [each.path for each in images.chain(image.path, image.format)]:
                raise StillNeeded(
                    f"snapshot {snapshot.name} of {machine.name} cannot be deleted: volume {image.volume}, which holds "
                    f"data that no disk uses, still needs {below} as it is",
                    files.way_back(image, machine.name),
                    (),
                )
        disk = by_target.get(target)
        chain = [image.path for image in images.chain(disk.path, disk.format)] if disk else []
        changed = [below]
        if disk and below in chain:
            others = [other.frozen.get(target) for other in machine.snapshots if other.name != snapshot.name]
            if below == disk.path or below in others:
                # merged by a run that died
                continue
            # up to where the next snapshot's file is
            top = next(path for path in reversed(chain[: chain.index(below)]) if path in (*others, disk.path))
            base = _lowest(images, machine, chain[chain.index(below) :], others)
            merged = chain[chain.index(top) : chain.index(base)]
            # other files on the uppermost go on reading from it what they did
            changed = [*merged[1:], base]
            left |= {f"volume {images.by_path[path].volume}" for path in merged}
            todo.append(Commit(disk, base, tuple(merged)))
        needed_by = {user for path in changed for user in images.users(path)} - machine.own - left
        if needed_by:
            branches = {
                other.name
                for other in machine.snapshots
                if {f"volume {images.by_path[path].volume}" for path in other.frozen.values() if path in images.by_path}
                & needed_by
            }
            raise StillNeeded(
                f"snapshot {snapshot.name} of {machine.name} cannot be deleted: {', '.join(sorted(needed_by))} "
                f"still needs {below} as it is",
                f"delete {', '.join(sorted(branches))} first" if branches else "see `kvmstate snapshot tree`",
                branches,
            )
    return todo


def _lowest(images: Images, machine: Machine, files_below: list[str], others: list[str | None]) -> str:
    """Into what a snapshot is merged: its own file. When there is no older snapshot it is the image below that, should
    its file be an overlay: a libvirtd that was killed has laid it there, and has not come to note its snapshot."""
    lowest = files_below[0]
    if not set(files_below) & set(others):
        for above, below in pairwise(files_below):
            needed_by = images.users(below) - machine.own - {f"volume {images.by_path[above].volume}"}
            if not above.endswith(SUFFIX) or needed_by:
                break
            lowest = below
    return lowest


@contextmanager
def _at_work(machine: Machine, say: Say) -> Iterator[None]:
    """A QEMU that has the disks open."""
    if machine.state != "stopped":
        yield
        return
    say(f"start {machine.name} without running its guest")
    snapshots.start_idle(machine.domain)
    try:
        yield
    finally:
        # libvirt does it when the connection is gone
        with suppress(ConnectionFailed):
            domains.destroy(machine.domain)


def _incomplete(domain: str) -> HostError:
    """A job that failed ends like one that did not."""
    return HostError(
        f"the data of {domain} could not be moved; none is lost",
        "see the domain's log on the host and its free space, then run this again",
    )


def _finish(host: Host, domain: str, name: str, say: Say, merged: list[str]) -> None:
    """All that lay on the snapshot's files has been merged: drop the overlays, then the metadata."""
    machine = _mended(host, look(host, domain))
    images = Images(host)
    files.sweep(host, images, machine, say)
    snapshot = machine.snapshot(name)
    empty = [path for path in snapshot.overlays.values() if not files.is_written(images, path)]
    unneeded = [path for path in (*merged, *empty, *snapshot.frozen.values()) if files.of_disks(images, machine, path)]
    own = {snapshot.of(domain)}
    # of a snapshot that was deleted before, and kept for this one alone: a run that dies here leaves word of them
    kept = [path for file in snapshot.frozen.values() for path in _for_this_alone(images, machine, file, own)]
    if kept:
        dropped.note(machine.domain, kept)
    for path in [*unneeded, *kept, snapshot.memory] if snapshot.memory else [*unneeded, *kept]:
        image = images.by_path.get(path)
        # what lies on nothing is not an overlay but the disk itself
        if (
            image
            and not images.users(path) - own
            and (image.backing or path == snapshot.memory)
            and files.remove(host, image, own)
        ):
            say(f"deleted {image.volume}")
            del images.by_path[path]
    if kept:
        dropped.keep(machine.domain, kept)
    try:
        snapshots.delete(snapshots.find(machine.domain, name), metadata_only=True)
    except HostError:
        # libvirt misses a disk that was detached since, after it has done the work
        if name in {left.name for left in look(host, domain).snapshots}:
            raise


def _for_this_alone(images: Images, machine: Machine, path: str, own: set[str]) -> list[str]:
    """The overlays below a snapshot's file that nobody else needs, the uppermost first."""
    found: list[str] = []
    if images.users(path) - own or not files.of_disks(images, machine, path):
        return found
    for above, below in pairwise(images.chain(path, "qcow2")):
        if not below.path.endswith(SUFFIX) or images.users(below.path) != {f"volume {above.volume}"}:
            break
        found.append(below.path)
    return found


def _mended(host: Host, machine: Machine) -> Machine:
    """Have each snapshot say the file that its overlay lies on: a merge has changed that."""
    images = Images(host)
    for snapshot in machine.snapshots:

        def say_below(root: etree._Element, snapshot: Snapshot = snapshot) -> None:
            for target, overlay in snapshot.overlays.items():
                found = images.by_path.get(overlay)
                if found and found.backing and target in snapshot.frozen:
                    lay(root.iterfind("*/devices/disk"), target, found.backing, found.backing_format)

        rewrite(machine.domain, snapshot.name, say_below)
    return look(host, machine.name)
