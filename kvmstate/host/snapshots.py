"""Snapshots of domains, and the block jobs that move data along their backing chains.

https://libvirt.org/html/libvirt-libvirt-domain-snapshot.raw.html, https://libvirt.org/kbase/live_full_disk_backup.html
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import libvirt

from kvmstate.errors import HostError, NotFound
from kvmstate.host import domains
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain, Snapshot, Volume
from kvmstate.host.permit import Permit
from kvmstate.xmlbind.document import document, to_text

Jobs = Callable[[int, int], None]
JOB_TYPES = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: "pull",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: "copy",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: "commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: "active commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: "backup",
}
# Says in a running domain which of its disks has a job of ours: jobs of other people are left alone
_OURS = "https://kvmstate.dev/xmlns/job/1.0"
_MARKING = threading.Lock()
# Among these: the whole domain was started for a job
_IDLE = "idle"
_STARTING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP]
# How many names of block nodes may be taken by what a killed libvirtd left in QEMU: each try takes the next one
LEFT_NODES = 8
# Seconds
_PATIENCE = 30
_LOOK = 0.05


def all_of(domain: Domain) -> list[Snapshot]:
    """Parents come before their children."""
    deadline = time.monotonic() + _PATIENCE
    with faults():
        while True:
            try:
                listed = domain.raw.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
                return [Snapshot(raw) for raw in listed]
            except libvirt.libvirtError as error:
                # libvirt 9.0 stumbles over one that is being taken at this moment
                if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG or time.monotonic() > deadline:
                    raise
            time.sleep(_LOOK)


def with_snapshots(connection: Any) -> list[Domain]:
    """The domains that have snapshots."""
    return domains.all_domains(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT)


def xml(snapshot: Snapshot) -> str:
    with faults():
        return str(snapshot.raw.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE))


def texts(domain: Domain) -> list[str]:
    """The XML of those that there are, parents before their children. Raises NotFound when the domain has gone."""
    found = []
    for snapshot in all_of(domain):
        # one that is deleted meanwhile
        with suppress(NotFound):
            found.append(xml(snapshot))
    return found


def current(domain: Domain) -> str | None:
    """The name of the snapshot that the domain's state builds on."""
    # the last one may be deleted meanwhile
    with suppress(NotFound), faults():
        if domain.raw.hasCurrentSnapshot(0):
            return str(domain.raw.snapshotCurrent(0).getName())
    return None


def checkpoints(domain: Domain) -> list[str]:
    """The names of a domain's checkpoints, by which backup programs tell what has changed since."""
    with faults():
        return sorted(str(checkpoint.getName()) for checkpoint in domain.raw.listAllCheckpoints(0))


def find(domain: Domain, name: str) -> Snapshot:
    """Find a snapshot of a domain by its name. Raises NotFound."""
    with faults():
        return Snapshot(domain.raw.snapshotLookupByName(name, 0))


def create_external(domain: Domain, text: str, memory: bool, quiesce: bool) -> None:
    """Into image files that are there already; of all disks or of none."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    # LIVE lets the guest run while its memory is written
    flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_LIVE if memory else libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE if quiesce else 0
    for last in (*[False] * LEFT_NODES, True):
        try:
            with faults():
                domain.raw.snapshotCreateXML(text, flags)
            return
        except HostError as error:
            # QEMU's words, which it has in no other language
            if last or "Duplicate nodes with node-name" not in error.message:
                raise


def create_internal(domain: Domain, text: str) -> None:
    """The guest pauses while its memory is written."""
    with faults():
        domain.raw.snapshotCreateXML(text, 0)


def redefine(domain: Domain, text: str, make_current: bool) -> None:
    """Write a snapshot's metadata again."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT if make_current else 0
    # libvirt wants it said twice
    if document(text).findtext("state") == "disk-snapshot":
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    with faults():
        domain.raw.snapshotCreateXML(text, flags)


def delete(snapshot: Snapshot, metadata_only: bool) -> None:
    """Its children become its parent's."""
    with faults():
        snapshot.raw.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY if metadata_only else 0)


def revert_internal(domain: Domain, snapshot: Snapshot) -> None:
    with faults():
        domain.raw.revertToSnapshot(snapshot.raw, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE)


def restore(connection: Any, path: str, domain_xml: str, running: bool) -> None:
    """Start a domain where an external snapshot's memory file left it."""
    state = libvirt.VIR_DOMAIN_SAVE_RUNNING if running else libvirt.VIR_DOMAIN_SAVE_PAUSED
    with faults():
        connection.restoreFlags(path, domain_xml, state)


# What a guest has besides its disks, and a start may fail for
_NOT_FOR_DISKS = ("interface", "hostdev", "redirdev", "filesystem")


def start_idle(domain: Domain) -> None:
    """Start without running the guest, so that block jobs can work on an inactive domain's disks. It needs no networks
    and no devices of the host, which may not be there. libvirt ends it by itself when the connection closes, also that
    of a run that was killed; see `end_idle`."""
    root = document(domains.xml(domain, secure=True))
    for devices in root.iterfind("devices"):
        for node in [node for name in _NOT_FOR_DISKS for node in devices.iterfind(name)]:
            devices.remove(node)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = root.makeelement("metadata")
        root.append(metadata)
    # it is marked from its first moment on, and a saved state is not touched
    metadata.append(document(f"<job:jobs xmlns:job='{_OURS}' disks='{_IDLE}'/>"))
    with faults():
        domain.raw.connect().createXML(
            to_text(root), libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
        )


def end_idle(domain: Domain) -> None:
    """A libvirtd that was killed has forgotten that it should: end what a dead run has started.

    What that libvirtd was still starting, its successor ends by itself, a moment after it can be asked.
    """
    deadline = time.monotonic() + _PATIENCE
    with faults():
        while domain.raw.isActive() and domain.raw.state(0) == _STARTING and time.monotonic() < deadline:
            time.sleep(_LOOK)
    if domains.state(domain) == "paused" and _IDLE in _ours(domain):
        domains.destroy(domain)


def job(domain: Domain, target: str) -> str | None:
    """The kind of the block job that a disk of a running domain has."""
    with faults():
        found = domain.raw.blockJobInfo(target, 0)
    return JOB_TYPES.get(found["type"], "unknown") if found else None


def settle_job(domain: Domain, target: str) -> None:
    """End a job that a dead run of ours left: what it has done is kept, what it has not is done again.

    Raises HostError for a job of somebody else.
    """
    found = job(domain, target)
    if found is None:
        return
    if target not in _ours(domain):
        raise HostError(
            f"disk {target} of {domain.name} has a block job ({found}) of somebody else",
            f"let it end, or abort it: `virsh blockjob {domain.name} {target} --abort`",
        )
    with suppress(HostError), faults():
        # a job that has just ended says so
        domain.raw.blockJobAbort(target, 0)
    _until_gone(domain, target, lambda done, whole: None)


def settle_own_jobs(domain: Domain, targets: Collection[str]) -> bool:
    """Those of a running domain's disks that dead runs of ours have left. Whether there were any."""
    ours = _ours(domain) & {*targets}
    for target in sorted(ours):
        settle_job(domain, target)
    return bool(ours)


def commit(
    domain: Domain, target: str, base: str, top: str, active: bool, progress: Jobs, merged: Callable[[], object]
) -> None:
    """Write the data of `top`, and what lies between, into `base`; an active `top` is left for `base` at the end.
    `merged` is called when `base` has all that an active `top` holds, right before it is left; of others, which stay
    below what is active until they are merged, at the beginning."""
    _mark(domain, target, True)
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if active else 0
    if not active:
        merged()
    with faults():
        domain.raw.blockCommit(target, base, top, 0, flags)
    if active:
        _until(lambda: _ready(domain, target, progress))
        merged()
        with faults():
            domain.raw.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    _until_gone(domain, target, progress)
    _mark(domain, target, False)


def pull(domain: Domain, target: str, progress: Jobs) -> None:
    """Copy all that lies below into the active image, which then needs no other."""
    _mark(domain, target, True)
    with faults():
        domain.raw.blockPull(target, 0, 0)
    _until_gone(domain, target, progress)
    _mark(domain, target, False)


def copy(domain: Domain, target: str, volume: Volume, disk: str, shallow: bool, permit: Permit, progress: Jobs) -> None:
    """Copy what a running domain's disk is to a volume that has just been made (`disk` says how it is opened), and move
    the disk there; of a `shallow` one what lies below stays where it is."""
    if found := job(domain, target):
        raise HostError(f"disk {target} of {domain.name} has a block job ({found})", "let it end, or abort it")
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    _mark(domain, target, True)
    permit.check(volume)
    with faults():
        domain.raw.blockCopy(target, disk, {}, flags | (libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW if shallow else 0))
    finish_copy(domain, target, progress)


def finish_copy(domain: Domain, target: str, progress: Jobs) -> None:
    """Wait for a copy that has begun, also by a run that was killed, and move the disk to it."""
    _until(lambda: _ready(domain, target, progress))
    with faults():
        domain.raw.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    _until_gone(domain, target, progress)
    _mark(domain, target, False)


def _ready(domain: Domain, target: str, progress: Jobs) -> bool:
    """Not merely as far as it can be: libvirt refuses the pivot until QEMU has said ready."""
    with faults():
        found = domain.raw.blockJobInfo(target, 0)
    if not found:
        raise HostError(f"the block job on {target} of {domain.name} failed", "see the domain's log on the host")
    progress(int(found["cur"]), int(found["end"]))
    root = document(domains.xml(domain, inactive=False))
    return bool(root.xpath("devices/disk[target/@dev=$dev]/mirror[@ready='yes']", dev=target))


def _until_gone(domain: Domain, target: str, progress: Jobs) -> None:
    def gone() -> bool:
        with faults():
            found = domain.raw.blockJobInfo(target, 0)
        if found:
            progress(int(found["cur"]), int(found["end"]))
        return not found

    _until(gone)


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(_LOOK)


def _ours(domain: Domain) -> set[str]:
    text = domains.metadata(domain, _OURS, live=True)
    return set((document(text).get("disks") or "").split()) if text else set()


def _mark(domain: Domain, target: str, ours: bool) -> None:
    # several disks of a machine may move at a time
    with _MARKING:
        disks = _ours(domain) | {target} if ours else _ours(domain) - {target}
        text = f"<jobs disks='{' '.join(sorted(disks))}'/>" if disks else None
        domains.set_metadata(domain, text, "kvmstate-job", _OURS, live=True)
