"""Checks of snapshots, and of the files that they need."""

from __future__ import annotations

from collections.abc import Iterator

from kvmstate.doctor.finding import Finding, error, ok, warning
from kvmstate.host import Host
from kvmstate.host.snapshots import with_snapshots
from kvmstate.snapshots import underway
from kvmstate.snapshots.chain import SUFFIX, Image, Images, Machine, look
from kvmstate.snapshots.create import DEEPEST
from kvmstate.snapshots.files import forsaken, is_written, leftovers, way_back


def snapshots(host: Host) -> Iterator[Finding]:
    images, told = Images(host), set[str]()
    for name in sorted(domain.name for domain in with_snapshots(host.connection)):
        machine = look(host, name)
        left = forsaken(images, machine)
        told |= machine.dropped | {image.path for image in left}
        found = [*_trouble(machine, images), *(_forsaken(image, images, name) for image in left)]
        yield from found or [ok(f"virtual machine {name}: {len(machine.snapshots)} snapshots, no file is missing")]
    for image in images.by_path.values():
        unused = image.path.endswith(SUFFIX) and image.path not in told and not images.users(image.path)
        if unused and is_written(images, image.path):
            yield _forsaken(image, images)


def _forsaken(image: Image, images: Images, machine: str = "VM") -> Finding:
    below = images.by_path.get(image.backing or "")
    return warning(
        f"volume {image.volume} holds data that no disk uses: it lies on {below.volume if below else image.backing}",
        way_back(image, machine),
    )


def _trouble(machine: Machine, images: Images) -> Iterator[Finding]:
    for snapshot in machine.snapshots:
        needed = [*snapshot.frozen.values(), *([snapshot.memory] if snapshot.memory else [])]
        for path in (path for path in needed if path not in images.by_path):
            yield error(
                f"{snapshot.of(machine.name)} needs {path}, which is missing, or in no active storage pool",
                f"restore it, or start its pool; else `kvmstate snapshot delete {machine.name} {snapshot.name}`",
            )
    if cut_off := underway.found(machine.domain):
        said = cut_off.cut_off(machine.name)
        yield warning(said.message, said.hint)
    for image in leftovers(images, machine):
        yield warning(
            f"volume {image.volume} is left from a run on {machine.name} that was cut off",
            "the next `kvmstate snapshot revert`, `delete` or `merge` of that machine removes it",
        )
    for disk in machine.disks:
        if (depth := len(images.chain(disk.path, disk.format))) > DEEPEST * 2 // 3:
            yield warning(
                f"disk {disk.target} of {machine.name} has a chain of {depth} files; {DEEPEST} are the most",
                f"`kvmstate snapshot merge {machine.name} --keep N`",
            )


CHECKS = (snapshots,)
