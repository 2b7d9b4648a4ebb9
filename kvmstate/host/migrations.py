"""Moving a domain to another host: https://libvirt.org/migration.html

libvirt settles which of both hosts runs the guest, also when one of its daemons is killed; see `Place` for how that is
told afterwards.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import libvirt
from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host.domains import UNSUPPORTED
from kvmstate.host.faults import faults
from kvmstate.host.objects import Connection, Domain
from kvmstate.xmlbind.document import document, to_text

# libvirt's own state and reason of a domain that waits for the other host
_WAITS = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
    # after a restart of libvirtd, which does not keep why
    libvirt.VIR_DOMAIN_PAUSED_UNKNOWN,
}
_JOBS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN,
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
}
# QEMU 7.2 may miss a cancel that comes right before it waits for libvirt's word to hand the guest over: it waits
# for that word for good, with the guest standing still, and libvirt waits for QEMU
_WAKE = '{"execute": "migrate-continue", "arguments": {"state": "cancelling"}}'
# How libvirt calls a job that somebody has ended
ABORTED: int = libvirt.VIR_ERR_OPERATION_ABORTED
# ... and a call that has waited for half a minute for another one's job on the domain
HELD: int = libvirt.VIR_ERR_OPERATION_TIMEOUT


@dataclass(frozen=True)
class Way:
    """How a domain is moved. `peer`: its host connects to the other one itself, by `peer_uri`, and goes on when nobody
    looks after it; else this client speaks with both. `uri` is where QEMU sends the memory to, `disks_uri` where disks
    are sent to. `bandwidth` is in MiB/s, `downtime` in ms; 0 leaves it to libvirt."""

    peer: bool = True
    peer_uri: str = ""
    uri: str = ""
    disks_uri: str = ""
    tls: bool = False
    tls_name: str = ""
    tunnelled: bool = False
    auto_converge: bool = False
    post_copy: bool = False
    bandwidth: int = 0
    downtime: int = 0


@dataclass(frozen=True)
class Job:
    """How far a move has come, in bytes; `rounds` over its memory are done. `downtime` in ms is as expected by now."""

    memory: int
    memory_total: int
    disks: int
    disks_total: int
    rounds: int = 0
    downtime: int = 0


def send(
    domain: Domain,
    target: Connection,
    way: Way,
    live: bool,
    running: str = "",
    config: str = "",
    copied: Collection[str] = (),
    proven: bool = False,
) -> None:
    """Move a domain, and wait until it is done. It stays defined here.

    `running` and `config` are its XML as it is to be there, where that is not as here. The disks at the targets
    `copied` are copied to images that are there. `proven`: that both hosts see the others is known, so that libvirt
    need not doubt it. Raises HostError, also where nothing is known of the outcome.
    """
    flags = libvirt.VIR_MIGRATE_PERSIST_DEST
    params: dict[str, Any] = {}
    if live:
        flags |= libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE if way.auto_converge else 0
        flags |= libvirt.VIR_MIGRATE_POSTCOPY if way.post_copy else 0
        flags |= libvirt.VIR_MIGRATE_UNSAFE if proven else 0
        if running:
            params[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = running
        if way.tls:
            flags |= libvirt.VIR_MIGRATE_TLS
            if way.tls_name:
                params[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = way.tls_name
        if way.uri:
            params[libvirt.VIR_MIGRATE_PARAM_URI] = way.uri
        if way.bandwidth:
            params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = way.bandwidth
        if copied:
            flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
            params[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = sorted(copied)
            if way.disks_uri:
                params[libvirt.VIR_MIGRATE_PARAM_DISKS_URI] = way.disks_uri
    else:
        flags |= libvirt.VIR_MIGRATE_OFFLINE
    if config:
        params[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = config
    with faults():
        if way.peer:
            flags |= libvirt.VIR_MIGRATE_PEER2PEER
            flags |= libvirt.VIR_MIGRATE_TUNNELLED if way.tunnelled and live else 0
            domain.raw.migrateToURI3(way.peer_uri, params, flags)
        else:
            flags |= libvirt.VIR_MIGRATE_CHANGE_PROTECTION
            domain.raw.migrate3(target, params, flags)


def set_downtime(domain: Domain, milliseconds: int) -> None:
    """How long the guest may stand still at the end."""
    with faults():
        domain.raw.migrateSetMaxDowntime(milliseconds, 0)


def job(domain: Domain) -> Job | None:
    """How far the move of this domain has come, from either side; None while there is none. Raises HostError for a job
    of another kind."""
    try:
        with faults():
            said = domain.raw.jobStats(0)
    except NotFound:
        return None
    except ConnectionFailed:
        raise
    except HostError as error:
        # it is off
        if error.code in (libvirt.VIR_ERR_OPERATION_INVALID, *UNSUPPORTED):
            return None
        raise
    if said.get("type", libvirt.VIR_DOMAIN_JOB_NONE) not in (
        libvirt.VIR_DOMAIN_JOB_BOUNDED,
        libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    ):
        return None
    if said.get("operation", 0) not in (0, *_JOBS):
        raise HostError(f"virtual machine {domain.name} has a job of another kind", "let it end, or abort it")
    return _job(said)


def _job(said: dict[str, Any]) -> Job:
    names = ("memory_processed", "memory_total", "disk_processed", "disk_total", "memory_iteration", "downtime")
    return Job(*(int(said.get(name, 0)) for name in names))


def last_job(domain: Domain) -> Job | None:
    """The move that is over, as the host tells that has the domain now."""
    # others may look at it as well
    flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    with suppress(HostError), faults():
        return _job(domain.raw.jobStats(flags))
    return None


def abort(domain: Domain) -> None:
    """End the move: the domain goes on where it is. Raises HostError where it cannot be ended any more."""
    with faults():
        domain.raw.abortJob()


def wake(domain: Domain) -> None:
    """Have QEMU look once more whether its move was cancelled. In any other state it refuses that."""
    import libvirt_qemu  # type: ignore[import-untyped]  # few moves need it

    with suppress(HostError), faults():
        if domain.raw.state(0) == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION]:
            libvirt_qemu.qemuMonitorCommand(domain.raw, _WAKE, 0)


def start_post_copy(domain: Domain) -> None:
    """Have the guest go on there at once: what it lacks of its memory is fetched when it needs it."""
    with faults():
        domain.raw.migrateStartPostCopy(0)


@dataclass(frozen=True)
class Place:
    """A domain on one of the hosts of a move. It `runs`, or `waits` for the other host, or somebody has paused it, or
    it is off; `given_up`: its daemon ended it, with its own restart, before it ran here. What is not `persistent` has
    never run where it goes to: libvirt defines it there before that."""

    domain: Domain | None
    runs: bool = False
    waits: bool = False
    paused: bool = False
    persistent: bool = False
    given_up: bool = False

    def __str__(self) -> str:
        if self.domain is None:
            return "not there"
        return "running" if self.runs else "waiting" if self.waits else "paused" if self.paused else "off"

    @property
    def off(self) -> bool:
        return not (self.runs or self.waits or self.paused)


def place(connection: Connection, uuid: str) -> Place:
    """How the domain with this UUID is here."""
    try:
        with faults():
            domain = Domain(connection.lookupByUUIDString(uuid))  # type: ignore[attr-defined]
            persistent = bool(domain.raw.isPersistent())
            state, reason = domain.raw.state(0)
    except NotFound:
        return Place(None)
    if state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED):
        given_up = state == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_DAEMON
        return Place(domain, persistent=persistent, given_up=given_up)
    if state == libvirt.VIR_DOMAIN_PAUSED:
        waits = reason in _WAITS
        return Place(domain, waits=waits, paused=not waits, persistent=persistent)
    return Place(domain, runs=True, persistent=persistent)


def text_for(domain: Domain, live: bool) -> str:
    """The XML that another host can define it from, with passwords."""
    flags = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
    with faults():
        return str(domain.raw.XMLDesc(flags if live else flags | libvirt.VIR_DOMAIN_XML_INACTIVE))


def lacks_machine(connection: Connection, root: etree._Element) -> str:
    """Why this host has no emulator for the machine of this XML; empty where it has."""
    kind = root.find("os/type")
    assert kind is not None
    try:
        with faults():
            connection.getDomainCapabilities(  # type: ignore[attr-defined]
                None, kind.get("arch"), kind.get("machine"), root.get("type"), 0
            )
    except ConnectionFailed:
        raise
    except HostError as error:
        return "" if error.code in UNSUPPORTED else error.message
    return ""


def lacks_cpu(connection: Connection, root: etree._Element, host_cpu: str) -> str:
    """Why a guest with the CPU of this XML, of what runs, would miss something here; empty where it would not.
    `host_cpu` is that of the host that it comes from."""
    kind, cpu = root.find("os/type"), root.find("cpu")
    assert kind is not None
    if cpu is None:
        return ""
    mode = cpu.get("mode", "custom")
    text = host_cpu if mode == "host-passthrough" else to_text(cpu)
    if mode == "custom" and cpu.find("model") is None:
        return ""
    try:
        with faults():
            found = connection.compareHypervisorCPU(  # type: ignore[attr-defined]
                None, kind.get("arch"), kind.get("machine"), root.get("type"), text, 0
            )
    except ConnectionFailed:
        raise
    except HostError:
        # libvirt compares once more when it begins
        return ""
    return "" if found > 0 else f"its CPU ({mode}) has features that the other host's lacks"


def host_cpu(capabilities: str) -> str:
    node = document(capabilities).find("host/cpu")
    return to_text(node) if node is not None else ""


def free_memory(connection: Connection) -> int:
    """In bytes, what processes can get of it: caches give way."""
    with suppress(HostError), faults():
        said = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)  # type: ignore[attr-defined]
        return sum(int(said.get(name, 0)) for name in ("free", "buffers", "cached")) * 1024
    return 0
