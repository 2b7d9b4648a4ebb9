"""Bring a domain's disks, and its memory where it was kept, back to a snapshot.

External snapshots are reverted by one row of steps on every libvirt: those before 9.9 have no call for it, and the
later ones' always drops what was changed in the configuration since. The snapshot's files are never written to: new
overlays are laid on them, so that the snapshot and all others stay.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import Host, domains, snapshots
from kvmstate.snapshots import dropped, files, underway
from kvmstate.snapshots.chain import (
    SUFFIX,
    Disk,
    Images,
    Machine,
    Snapshot,
    define,
    disks,
    ended,
    lay,
    look,
    refuse_checkpoints,
    rewrite,
)
from kvmstate.snapshots.create import Say, Wish, check_room, take
from kvmstate.snapshots.create import check as check_wish
from kvmstate.snapshots.underway import Underway
from kvmstate.xmlbind import document, to_text


@dataclass(frozen=True)
class Loss:
    """What a revert changes besides the disks' contents: overlays whose data goes, what the configuration has now and
    did not have then (and the other way round), as element names with a distinguishing part, and whether it stays."""

    dropped: tuple[str, ...]
    since: tuple[str, ...]
    stays: bool


def loss(host: Host, domain: str, name: str, configuration: bool = False) -> Loss:
    """Say what a revert would lose. Raises NotFound, and HostError when the snapshot cannot be reverted to."""
    machine = look(host, domain)
    snapshot, images = machine.snapshot(name), Images(host)
    check(host, machine, snapshot, images, configuration)
    stays = snapshot.external and not configuration
    return Loss(tuple(_lost(machine, snapshot, images)), tuple(differences(machine, snapshot)), stays)


def revert(
    host: Host,
    domain: str,
    name: str,
    say: Say = lambda text: None,
    configuration: bool = False,
    state: str | None = None,
    keep: str = "",
    approved: Collection[str] | None = None,
) -> bool:
    """The machine's configuration stays as it is now, unless `configuration`; memory fits that of then only, with which
    the machine runs until it is shut down. It is in `state` afterwards: running, paused or stopped; by default it runs
    when it did before, or the snapshot has memory. With `keep` what was written since becomes a snapshot of that name,
    if anything was; whether there is one is returned. `approved` are the files whose data may go, as `loss` names them;
    by default those that it would name now. Raises NotFound and HostError.

    A machine that is not off is noted as being reverted before it is stopped: a run that dies leaves it off, and the
    same call goes on.
    """
    machine = ended(host, domain)
    cut_off = underway.found(machine.domain)
    if cut_off and cut_off.snapshot == name:
        configuration, keep = configuration or cut_off.configuration, keep or cut_off.keep
    snapshot, images = machine.snapshot(name), Images(host)
    state = state or _afterwards(machine, snapshot, cut_off)
    check(host, machine, snapshot, images, configuration)
    wish = _wish(machine, snapshot, keep) if keep else None
    if wish:
        _check_keep(host, machine, snapshot, images, wish)
    if not snapshot.external:
        kept = wish is not None and _keep(host, machine, snapshot, images, wish, say)
        snapshots.revert_internal(machine.domain, snapshots.find(machine.domain, name))
        return kept
    paths = {target: files.fresh_path(images, below, name) for target, below in snapshot.frozen.items()}
    formats = {disk.target: disk.format for disk in disks(snapshot.domain)}
    for target, below in snapshot.frozen.items():
        say(f"overlay {paths[target]}")
        files.make(host, images, images.known(below), formats[target], paths[target])
    going = set(_lost(machine, snapshot, images) if approved is None else approved)
    mark = Underway(name, state, configuration, keep) if cut_off or machine.state != "stopped" else None
    if mark:
        underway.begin(machine.domain, mark)
    if machine.state != "stopped":
        for target in snapshot.frozen.keys() & {disk.target for disk in machine.disks}:
            snapshots.settle_job(machine.domain, target)
        say(f"stop {domain}")
        domains.destroy(machine.domain)
        machine, images = look(host, domain), Images(host)
    kept = wish is not None and _keep(host, machine, snapshot, images, wish, say)
    if kept:
        machine, images = look(host, domain), Images(host)
    # made here, and off every disk from this very change on
    going = {path for path in going & {*_lost(machine, snapshot, images)} if path.endswith(SUFFIX)}

    def switched(now: etree._Element) -> etree._Element:
        if tuple(disks(now)) != machine.disks or domains.state(machine.domain) != "stopped":
            raise HostError(f"{domain} was changed or started meanwhile", "run this again when nobody works on it")
        node = _switched(snapshot.configuration if configuration else now, machine.disks, images, paths)
        if mark:
            mark.write(node)
        dropped.write(node, machine.dropped | going)
        return node

    define(host, machine.domain, switched)
    for each in machine.lineage(snapshot):
        over = paths if each is snapshot else _overlays(images, each, snapshot)
        rewrite(machine.domain, each.name, partial(_with_overlays, paths=over), each is snapshot)
    if snapshot.memory and state != "stopped":
        say(f"restore the memory of {domain}")
        ran = _switched(snapshot.domain, machine.disks, images, paths)
        if not configuration:
            _keep_filters(ran, document(domains.xml(machine.domain)))
        snapshots.restore(host.connection, snapshot.memory, to_text(ran), running=state == "running")
    elif state != "stopped":
        say(f"start {domain}")
        domains.start(machine.domain, state == "paused")
    underway.end(machine.domain)
    files.sweep(host, Images(host), look(host, domain), say)
    return kept


def _afterwards(machine: Machine, snapshot: Snapshot, cut_off: Underway | None) -> str:
    before = cut_off.state if cut_off else machine.state
    return "running" if before == "stopped" and snapshot.memory else before


def _wish(machine: Machine, snapshot: Snapshot, keep: str) -> Wish:
    """A snapshot of what is there now, of the disks that are reverted."""
    targets = [disk.target for disk in machine.disks if disk.target in snapshot.frozen]
    disks = targets if snapshot.external else None
    text = f"what was there when {machine.name} was reverted to {snapshot.name}"
    return Wish(keep, text, disks, mode="external" if snapshot.external else "internal")


def _check_keep(host: Host, machine: Machine, snapshot: Snapshot, images: Images, wish: Wish) -> None:
    """Raises UsageError and HostError when not all that was written since can be kept."""
    in_use = {image.path for disk in machine.disks for image in images.chain(disk.path, disk.format)}
    for path in snapshot.overlays.values():
        if path not in in_use and path in images.by_path and not images.users(path) and files.is_written(images, path):
            raise HostError(
                f"{path} holds what was written since snapshot {snapshot.name}, and no disk of {machine.name} has it",
                "see `kvmstate snapshot tree`",
            )
    if wish.name in {other.name for other in machine.snapshots}:
        return
    check_wish(host, machine, wish)
    for disk in machine.disks:
        if disk.target in snapshot.frozen:
            check_room(images, machine.name, disk)


def _keep(host: Host, machine: Machine, snapshot: Snapshot, images: Images, wish: Wish, say: Say) -> bool:
    """Take the snapshot of what is there, unless a run that died has, or nothing was written to external overlays."""
    if wish.name in {other.name for other in machine.snapshots}:
        return True
    reverted = [disk for disk in machine.disks if disk.target in snapshot.frozen]
    written = [d for d in reverted if d.path != snapshot.frozen[d.target] and files.is_written(images, d.path)]
    if snapshot.external and not written:
        return False
    say(f"keep what was written as snapshot {wish.name}")
    take(host, machine, wish, say)
    return True


def check(host: Host, machine: Machine, snapshot: Snapshot, images: Images, configuration: bool = False) -> None:
    """Check whether a revert would work. Raises HostError when this cannot be reverted to."""
    if not snapshot.external:
        if (11, 2, 0) <= host.library_version < (11, 4, 0):
            raise HostError(
                f"libvirt {'.'.join(map(str, host.library_version))} cannot revert internal snapshots",
                "use libvirt 11.4 or later",
            )
        if any(other.external for other in machine.snapshots) and host.library_version < (11, 0, 0):
            raise HostError(
                f"{machine.name} has snapshots of both modes, which this libvirt loses data with",
                "merge the external ones first",
            )
        return
    refuse_checkpoints(machine)
    if hidden := [disk.target for disk in (*machine.disks, *disks(snapshot.domain)) if disk.encrypted]:
        raise HostError(
            f"disk {hidden[0]} of {machine.name} is encrypted: kvmstate lays it on no other overlay",
            "copy what is needed out of the snapshot's file by hand (`kvmstate snapshot show`), with the passphrase",
        )
    targets = {disk.target for disk in (disks(snapshot.configuration) if configuration else machine.disks)}
    for target, below in snapshot.frozen.items():
        if below not in images.by_path:
            raise HostError(
                f"snapshot {snapshot.name} needs {below}, which is missing, or in no active storage pool",
                "restore the file, or make its folder a storage pool",
            )
        if target not in targets and snapshot.memory is None:
            raise HostError(
                f"{machine.name} has no disk {target} any more, which snapshot {snapshot.name} is of",
                "attach it again first, or revert its configuration too (--configuration)",
            )
    if snapshot.memory and snapshot.memory not in images.by_path:
        raise HostError(f"snapshot {snapshot.name} needs {snapshot.memory}, which is missing", "restore the file")


def _switched(node: etree._Element, now: tuple[Disk, ...], images: Images, paths: dict[str, str]) -> etree._Element:
    """Lay the domain's disks on other files. Those that the snapshot does not have keep the file that is over theirs
    now."""
    then = {disk.target: disk.path for disk in disks(node)}
    others = {
        disk.target: (disk.path, disk.format)
        for disk in now
        if disk.is_file and then.get(disk.target) in {image.path for image in images.chain(disk.path, disk.format)}
    }
    wanted = others | {target: (path, "qcow2") for target, path in paths.items()}
    for target, (path, format_) in wanted.items():
        lay(node.iterfind("devices/disk"), target, path, format_)
    return node


def _keep_filters(ran: etree._Element, now: etree._Element) -> None:
    """Have interfaces that were in use with the memory use the network filters of now: the host has them, and no guest
    sees which."""
    filters = {nic.find("mac").get("address"): nic.find("filterref") for nic in now.iterfind("devices/interface[mac]")}  # type: ignore[union-attr]
    for nic in ran.iterfind("devices/interface[mac]"):
        if (mac := nic.find("mac").get("address")) in filters:  # type: ignore[union-attr]
            for then in nic.findall("filterref"):
                nic.remove(then)
            if (found := filters[mac]) is not None:
                nic.append(found)


def _overlays(images: Images, snapshot: Snapshot, tip: Snapshot) -> dict[str, str]:
    """By target: what lies on a snapshot's file on the way to a later one's."""
    return {
        target: image.path
        for target, path in tip.frozen.items()
        for image in images.chain(path, "qcow2")
        if image.backing and image.backing == snapshot.frozen.get(target)
    }


def _with_overlays(root: etree._Element, paths: dict[str, str]) -> None:
    """Have a snapshot's metadata say which overlays are on its files now."""
    for leftover in root.findall("revertDisks"):
        root.remove(leftover)
    for disk in root.iterfind("disks/disk"):
        source = disk.find("source")
        if source is not None and disk.get("name") in paths:
            source.set("file", paths[disk.get("name", "")])


def _lost(machine: Machine, snapshot: Snapshot, images: Images) -> list[str]:
    """What holds data that no snapshot keeps: the files of the disks, and overlays below them."""
    kept = {path for each in machine.snapshots for path in each.frozen.values()}
    found: list[str] = []
    for disk in machine.disks:
        if disk.target not in snapshot.frozen or disk.path in kept:
            continue
        found.append(disk.path)
        for above, image in pairwise(images.chain(disk.path, disk.format)):
            if image.path in kept or not (above.path.endswith(SUFFIX) and image.path.endswith(SUFFIX)):
                break
            found.append(image.path)
    return found


def differences(machine: Machine, snapshot: Snapshot) -> list[str]:
    """What the configuration has, one line for a device or setting, now (+) or then (-) only."""
    now, then = _settings(document(domains.xml(machine.domain))), _settings(snapshot.domain)
    return [f"+ {line}" for line in sorted(now - then)] + [f"- {line}" for line in sorted(then - now)]


def _settings(root: etree._Element) -> set[str]:
    found = {f"{tag} {root.findtext(tag)} {root.find(tag).get('unit', '')}".rstrip() for tag in ("memory", "vcpu")}  # type: ignore[union-attr]
    for device in root.iterfind("devices/*"):
        if what := _device(device):
            found.add(what)
    return found


def _device(node: etree._Element) -> str | None:
    target, mac, source = node.find("target"), node.find("mac"), node.find("source")
    if node.tag == "interface" and mac is not None:
        where: dict[Any, object] = dict(source.attrib) if source is not None else {}
        said = f"interface {mac.get('address')} {where.get('network') or where.get('bridge') or ''}".rstrip()
        filterref = node.find("filterref")
        return said if filterref is None else f"{said}, network filter {filterref.get('filter')}"
    if node.tag == "disk" and target is not None:
        return f"disk {target.get('dev')}"
    return f"{node.tag} {node.get('type') or node.get('model') or ''}".rstrip() if node.tag != "emulator" else None
