"""Take a snapshot."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from lxml import etree

from kvmstate.errors import HostError, UsageError
from kvmstate.host import Host, agent, domains, snapshots
from kvmstate.snapshots import dropped, files
from kvmstate.snapshots.chain import Disk, Images, Machine, look, recovered, writers
from kvmstate.xmlbind import document, to_text

# QEMU opens every file of a chain, and libvirt 10.8 to 11 does not start a domain with longer ones
DEEPEST = 25
Mode = Literal["external", "internal"]
Quiesce = Literal["no", "preferred", "required"]
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Wish:
    """A snapshot to be taken. `disks` are targets such as vda; None: all that are written to."""

    name: str
    description: str = ""
    disks: Sequence[str] | None = None
    memory: bool = False
    quiesce: Quiesce = "no"
    mode: Mode = "external"


def create(host: Host, domain: str, wish: Wish, say: Say = lambda text: None) -> None:
    """Take a snapshot. Raises NotFound, UsageError and HostError; nothing has changed then.

    External snapshots of running guests do not interrupt them, but for the moment of quiescing; internal ones pause
    them while their memory is written.
    """
    machine = recovered(host, domain)
    check(host, machine, wish)
    take(host, machine, wish, say)


def take(host: Host, machine: Machine, wish: Wish, say: Say) -> None:
    """Without any check of the wish. Raises HostError; nothing has changed then."""
    domain = machine.name
    if wish.mode == "internal":
        if machine.state == "running":
            say(f"{domain} pauses while its memory is written")
        snapshots.create_internal(machine.domain, to_text(_described(wish)))
        return
    images = Images(host)
    root, made = _described(wish), []
    listed = etree.SubElement(root, "disks")
    chosen = _chosen(machine, wish)
    for disk in machine.disks:
        if disk not in chosen:
            etree.SubElement(listed, "disk", name=disk.target, snapshot="no")
            continue
        # what a deleted snapshot of this name was merged into may still have its name, below another branch
        below, path = images.known(disk.path), files.fresh_path(images, disk.path, wish.name, 1)
        check_room(images, domain, disk)
        made.append((below, disk.format, path))
        node = etree.SubElement(listed, "disk", name=disk.target, snapshot="external", type="file")
        etree.SubElement(node, "driver", type="qcow2")
        etree.SubElement(node, "source", file=path)
    memory = files.memory_path(images, machine, posixpath.dirname(made[0][2]), wish.name) if wish.memory else ""
    if memory:
        etree.SubElement(root, "memory", snapshot="external", file=memory)
        # libvirt writes over what is there: whose it is must be known
        dropped.note(machine.domain, [memory])
    for below, format_, path in made:
        say(f"overlay {path}")
        files.make(host, images, below, format_, path)
    try:
        if look(host, domain).disks != machine.disks:
            raise HostError(f"the disks of {domain} have changed meanwhile", "nothing was done: run this again")
        _create(machine, to_text(root), wish, say)
    except HostError:
        after = Images(host)
        for _, _, path in made:
            # empty, unless libvirt took the snapshot and failed later
            if path in after.by_path and not after.users(path) and not files.is_written(after, path):
                files.remove(host, after.by_path[path])
        if memory in after.by_path and not after.users(memory):
            files.remove(host, after.by_path[memory])
        raise
    finally:
        if memory:
            with suppress(HostError):
                dropped.keep(machine.domain, [memory])


def check(host: Host, machine: Machine, wish: Wish) -> None:
    """Check whether the snapshot can be taken. Raises UsageError for what makes no sense, HostError for what this
    libvirt would do wrong."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:+-]*", wish.name) or len(wish.name) > 80:
        raise UsageError(
            f"{wish.name!r} is not a name for a snapshot", "use letters, digits and _ . : + - (it names files, too)"
        )
    if any(snapshot.name == wish.name for snapshot in machine.snapshots):
        raise UsageError(f"virtual machine {machine.name} has a snapshot {wish.name} already", "choose another name")
    chosen = _chosen(machine, wish)
    if not chosen:
        raise UsageError(f"virtual machine {machine.name} has no disk that is written to", "there is nothing to keep")
    if wish.memory and machine.state == "stopped":
        raise UsageError(
            f"virtual machine {machine.name} is off and has no memory to keep", "leave --memory out, or start it"
        )
    if wish.quiesce == "required" and (wish.memory or wish.mode == "internal"):
        raise UsageError("a snapshot with memory needs no quiescing, and libvirt refuses both", "leave one of them out")
    if wish.quiesce == "required" and not _has_agent(machine):
        raise HostError(
            f"no guest agent answers in {machine.name}, so that its file systems cannot be quiesced",
            "start qemu-guest-agent in the guest (spec.guestAgent: true), or ask for quiesce: preferred",
        )
    shared = writers(host, machine.name)
    for disk in chosen:
        if others := shared.get(disk.path):
            raise HostError(
                f"virtual machine {', '.join(sorted(others))} writes to disk {disk.target} of {machine.name}, too: it "
                "would change what the snapshot keeps",
                "take the disk out of one of them, or name the other disks with --disk",
            )
    other = [snapshot for snapshot in machine.snapshots if snapshot.mode != wish.mode]
    if other and host.library_version < (11, 0, 0):
        raise HostError(
            f"{machine.name} has {other[0].mode} snapshots ({other[0].name}), and libvirt "
            f"{'.'.join(map(str, host.library_version))} loses data when both modes are mixed",
            f"take an {other[0].mode} snapshot, or delete the others first; libvirt 11.0 mixes them safely",
        )
    if wish.mode == "internal":
        _check_internal(host, machine, wish)
        return
    for disk in chosen:
        if not disk.is_file:
            raise HostError(
                f"disk {disk.target} of {machine.name} is not an image file ({disk.path or 'network storage'}), and "
                "has no folder for an overlay",
                "name the disks that shall be in the snapshot with --disk",
            )
        if disk.encrypted and machine.state == "stopped":
            # libvirt forgets with what: the machine would not start
            raise HostError(
                f"disk {disk.target} of {machine.name} is encrypted, and libvirt lays no overlay over it while the "
                "machine is off",
                "start the machine first, or take an internal snapshot (--mode internal) of qcow2 images",
            )


def check_room(images: Images, domain: str, disk: Disk) -> None:
    """Check that a chain has room for one more overlay. Raises HostError when one more overlay would be too many."""
    if len(images.chain(disk.path, disk.format)) >= DEEPEST:
        raise HostError(
            f"the chain of disk {disk.target} of {domain} has {DEEPEST} files already, and may not start with more",
            f"merge first: `kvmstate snapshot merge {domain}`",
        )


def _check_internal(host: Host, machine: Machine, wish: Wish) -> None:
    if wish.disks is not None:
        raise UsageError("an internal snapshot is of all disks", "leave --disk out, or take an external one")
    for disk in machine.disks:
        if disk.writable and disk.format != "qcow2":
            raise HostError(
                f"disk {disk.target} of {machine.name} is {disk.format}: only qcow2 images hold internal snapshots",
                "take an external one (--mode external)",
            )
    if (11, 2, 0) <= host.library_version < (11, 4, 0):
        raise HostError(
            f"libvirt {'.'.join(map(str, host.library_version))} cannot revert internal snapshots",
            "take an external one (--mode external)",
        )
    if host.library_version < (10, 9, 0) and _has_variables(machine):
        raise HostError(
            f"{machine.name} boots by UEFI, whose variables libvirt before 10.9 does not keep in internal snapshots",
            "take an external one (--mode external)",
        )


def _has_variables(machine: Machine) -> bool:
    """Whether its firmware keeps variables in a file of its own. What libvirt chooses at a start has no loader yet."""
    os = document(domains.xml(machine.domain)).find("os")
    return os is not None and (os.get("firmware") == "efi" or os.find("loader[@type='pflash']") is not None)


def _chosen(machine: Machine, wish: Wish) -> list[Disk]:
    """Raises UsageError for a disk that the machine does not have."""
    writable = {disk.target: disk for disk in machine.disks if disk.writable}
    if wish.disks is None:
        return list(writable.values())
    for target in wish.disks:
        if target not in writable:
            raise UsageError(
                f"virtual machine {machine.name} has no disk {target} that is written to",
                f"its disks are {', '.join(writable) or 'none'}",
            )
    return [writable[target] for target in wish.disks]


def _described(wish: Wish) -> etree._Element:
    root = etree.Element("domainsnapshot")
    etree.SubElement(root, "name").text = wish.name
    if wish.description:
        etree.SubElement(root, "description").text = wish.description
    return root


def _has_agent(machine: Machine) -> bool:
    return agent.is_connected(domains.xml(machine.domain, inactive=False))


def _create(machine: Machine, text: str, wish: Wish, say: Say) -> None:
    if wish.quiesce == "no" or wish.memory or machine.state != "running":
        snapshots.create_external(machine.domain, text, wish.memory, quiesce=False)
        return
    why = f"no guest agent answers in {machine.name}"
    if _has_agent(machine):
        try:
            snapshots.create_external(machine.domain, text, wish.memory, quiesce=True)
            return
        except HostError as error:
            if wish.quiesce == "required":
                raise
            why = f"{machine.name} cannot be quiesced ({error.message})"
    say(f"{why}: the snapshot is crash-consistent, as after a power cut")
    snapshots.create_external(machine.domain, text, wish.memory, quiesce=False)
