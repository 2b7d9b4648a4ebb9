"""Domains: https://libvirt.org/html/libvirt-libvirt-domain.raw.html"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar

import libvirt

from kvmstate.errors import ConnectionFailed, HostError, NotFound, NotLive
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain, Volume
from kvmstate.host.permit import Configuration, Permit

T = TypeVar("T")
# What `kept_states` calls a machine's
MEMORY = "the saved memory"
_PAUSED = {libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED}
_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
# How long a guest may take to let a device go, or to move its memory balloon
GUEST_TIMEOUT = 20.0
SHUTDOWN_AGAIN = 5.0
# By which libvirt says that it, or QEMU, has no way to do this
UNSUPPORTED = {
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
}
# The same of what it has just defined
NOT_LIVE = UNSUPPORTED | {libvirt.VIR_ERR_CONFIG_UNSUPPORTED}
# So many are looked up one by one; for more it is quicker to list all
FEW = 5


# What is defined for a moment, to be looked at; with the time, so that what a killed run has left is told from what
# another one is about to undefine
_TRIAL = re.compile(r"kvmstate-import-(\d{10})-[0-9a-f]{12}")
_TRIAL_LASTS = 60.0


def all_domains(connection: Any, flags: int = 0) -> list[Domain]:
    """Without those that are defined for a moment: see `tried`."""
    with faults():
        found = [Domain(raw) for raw in connection.listAllDomains(flags)]
    return [domain for domain in found if not _TRIAL.fullmatch(domain.name)]


def named(connection: Any, names: Collection[str]) -> list[Domain]:
    """Those of these names that exist."""
    if len(names) > FEW:
        return [domain for domain in all_domains(connection) if domain.name in names]
    found = []
    for name in names:
        if _TRIAL.fullmatch(name):
            continue
        with suppress(NotFound):
            found.append(find(connection, name))
    return found


def statuses(connection: Any, names: Collection[str]) -> Callable[[Domain], tuple[bool, bool, bool]]:
    """What tells of a domain whether it is active, starts with the host, and is persistent: of many with one call for
    each question, of a few with one for each domain."""
    if len(names) <= FEW:
        return _status

    def uuids(flag: int) -> set[str]:
        return {domain.uuid for domain in all_domains(connection, flag)}

    with faults():
        active = uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        autostarted = uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
        transient = uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT) if active else set()

    def status(domain: Domain) -> tuple[bool, bool, bool]:
        uuid = domain.uuid
        return uuid in active, uuid in autostarted, uuid not in transient

    return status


def _status(domain: Domain) -> tuple[bool, bool, bool]:
    with faults():
        persistent = bool(domain.raw.isPersistent())
        # libvirt asks a definition whether it starts with the host
        return bool(domain.raw.isActive()), persistent and bool(domain.raw.autostart()), persistent


def kept_states(connection: Any, names: Collection[str] | None = None) -> dict[str, list[tuple[str, str]]]:
    """Read, by UUID, the XML of each state that libvirt keeps of a domain (snapshots, checkpoints, saved memory), and
    what it is called. Of all, or of these names."""
    found: dict[str, list[tuple[str, str]]] = {}

    def keep(flag: int, texts: Callable[[Domain], list[tuple[str, str]]]) -> None:
        for domain in _unless_unknown(lambda: all_domains(connection, flag), list[Domain]()):
            if names is not None and domain.name not in names:
                continue
            with suppress(NotFound), faults():
                found.setdefault(domain.uuid, []).extend(texts(domain))

    keep(
        libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT,
        lambda domain: _texts("snapshot", domain.raw.listAllSnapshots(0)),
    )
    keep(
        libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT,
        lambda domain: _texts("checkpoint", domain.raw.listAllCheckpoints(0)),
    )
    keep(
        libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
        lambda domain: [(MEMORY, domain.raw.managedSaveGetXMLDesc(0))],
    )
    return found


def _texts(what: str, listed: list[Any]) -> list[tuple[str, str]]:
    """Without those that have gone since they were listed."""
    found = []
    for each in listed:
        with suppress(NotFound), faults():
            found.append((f"{what} {each.getName()}", each.getXMLDesc(0)))
    return found


def saved(connection: Any, names: Collection[str]) -> Callable[[Domain], bool]:
    """What tells of a domain whether it has a saved memory image, from which its next start goes on: of many with one
    call, of a few with one for each."""

    if len(names) <= FEW:
        return lambda domain: _unless_unknown(lambda: bool(domain.raw.hasManagedSaveImage(0)), False)
    flag = libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE
    uuids = _unless_unknown(lambda: {domain.uuid for domain in all_domains(connection, flag)}, set[str]())
    return lambda domain: domain.uuid in uuids


def _unless_unknown(ask: Callable[[], T], answer: T) -> T:
    """What is asked; the `answer` of a driver that keeps no such thing."""
    try:
        with faults():
            return ask()
    except HostError as error:
        if error.code in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            return answer
        raise


def saved_xml(domain: Domain, secure: bool = False) -> str | None:
    """The configuration that its saved memory image goes on with, with passwords if it is to be `secure`; None where
    the driver does not tell."""
    try:
        with faults():
            return str(domain.raw.managedSaveGetXMLDesc(libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE if secure else 0))
    except ConnectionFailed:
        raise
    except HostError:
        return None


def find(connection: Any, name: str) -> Domain:
    """Find a domain by its name. Raises NotFound."""
    with faults():
        return Domain(connection.lookupByName(name))


def exists(connection: Any, name: str) -> bool:
    try:
        return bool(find(connection, name))
    except NotFound:
        return False


def has(connection: Any, uuid: str) -> bool:
    """Whether a domain has this UUID, under whatever name."""
    try:
        with faults():
            return bool(connection.lookupByUUIDString(uuid))
    except NotFound:
        return False


def xml(domain: Domain, inactive: bool = True, secure: bool = False) -> str:
    """`secure` includes passwords, which a redefinition must carry on."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    with faults():
        return str(domain.raw.XMLDesc(flags | (libvirt.VIR_DOMAIN_XML_SECURE if secure else 0)))


def state(domain: Domain) -> str:
    """running, paused or stopped. A crashed domain that libvirt keeps is stopped."""
    with faults():
        if not domain.raw.isActive():
            return "stopped"
        number, _ = domain.raw.state(0)
    if number in _PAUSED:
        return "paused"
    return "stopped" if number in (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF) else "running"


# The code of the error that says that a document does not fit libvirt's schema
OUT_OF_SCHEMA: int = libvirt.VIR_ERR_XML_INVALID_SCHEMA


def configuration(domain: Domain) -> Configuration[Domain]:
    """What is defined, with passwords, to be edited for `redefine`."""
    return Configuration(domain, xml(domain, secure=True), lambda domain: xml(domain, secure=True))


def redefine(before: Configuration[Domain], text: str, validate: bool = False) -> Domain:
    """Define a domain otherwise. `validate` refuses XML that libvirt would drop without a word. Raises Changed when it
    is no longer what `before` says, from which `text` was made."""
    before.check()
    return define(before.thing.connection, text, validate)


def define(connection: Any, text: str, validate: bool) -> Domain:
    """Define a domain that is not there: libvirt refuses the name of one that is, with another UUID."""
    with faults():
        return Domain(connection.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE if validate else 0))


def trial_name() -> str:
    return f"kvmstate-import-{int(time.time()):010d}-{secrets.token_hex(6)}"


def left_trials(connection: Any) -> list[str]:
    """The names of those that a killed run has left."""
    with faults():
        found = [Domain(raw).name for raw in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE)]
    at = {name: int(match[1]) for name in found if (match := _TRIAL.fullmatch(name))}
    return [name for name, since in at.items() if abs(time.time() - since) > _TRIAL_LASTS]


def remove_trials(connection: Any) -> None:
    """Undefine those that a killed run has left: nothing was ever in them."""
    for name in left_trials(connection):
        with suppress(HostError), faults():
            connection.lookupByName(name).undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)


def tried(connection: Any, text: str) -> str:
    """What libvirt makes of a domain with a `trial_name` and a UUID that nobody else has: it is defined, looked at, and
    undefined. No guest was ever in it, so that nothing is lost, and no list ever has it."""
    with faults():
        made = connection.defineXMLFlags(text, 0)
        try:
            shown: str = made.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        finally:
            made.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    return shown


def start(domain: Domain, paused: bool = False) -> None:
    flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
    _reach("paused" if paused else "running", domain, lambda: domain.raw.createWithFlags(flags))


def start_as(domain: Domain, text: str) -> None:
    """Start a domain that is off with other XML of the same name and UUID; what is defined stays, and counts again when
    it has stopped."""
    with faults():
        domain.raw.connect().createXML(text, 0)


# virDomainShutoffReason
_REASONS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "failed",
}


def stopped_because(domain: Domain) -> str:
    """Why a domain is off: shutdown (by its guest), destroyed, crashed, failed; empty for another reason, and where a
    daemon that was started since does not know."""
    with faults():
        number, reason = domain.raw.state(0)
    if number == libvirt.VIR_DOMAIN_CRASHED:
        return "crashed"
    return _REASONS.get(reason, "") if number == libvirt.VIR_DOMAIN_SHUTOFF else ""


def suspend(domain: Domain) -> None:
    _reach("paused", domain, domain.raw.suspend)


def resume(domain: Domain) -> None:
    _reach("running", domain, domain.raw.resume)


def rename(connection: Any, old: str, new: str) -> None:
    """Rename an inactive domain; what belongs to it (NVRAM, saved state) goes with it as far as libvirt knows how."""
    with faults():
        connection.lookupByName(old).rename(new, 0)


def set_autostart(domain: Domain, value: bool) -> None:
    with faults():
        domain.raw.setAutostart(int(value))


def shutdown(
    domain: Domain,
    timeout: float,
    power_off: bool,
    clock: Callable[[], float] = time.monotonic,
    hint: str = "shut it down by hand, or let lifecycle.stop say onTimeout: destroy",
    told: Callable[[float], None] = lambda seconds: None,
) -> None:
    """Ask the guest to shut down (by its agent, else by ACPI) and wait; when time is up, power off if that is allowed.
    Raises HostError, with this `hint`. `told` is told how long it has been waited each time that it is asked again.

    The request is repeated: a guest that is still booting does not hear the first one.
    """
    began = clock()
    deadline = began + timeout
    asked = -SHUTDOWN_AGAIN
    while state(domain) != "stopped":
        if state(domain) == "paused":
            resume(domain)
        if clock() >= deadline:
            if power_off:
                destroy(domain)
                return
            raise HostError(f"the guest did not shut down within {timeout:g} s", hint)
        if clock() - asked >= SHUTDOWN_AGAIN:
            _reach("stopped", domain, lambda: domain.raw.shutdownFlags(0))
            asked = clock()
            told(asked - began)
        time.sleep(0.1)


def destroy(domain: Domain) -> None:
    """Power off without asking the guest."""
    _reach("stopped", domain, domain.raw.destroy)


def _reach(wanted: str, domain: Domain, call: Callable[[], Any]) -> None:
    """Somebody else may have brought the domain there meanwhile: its guest, or a run that was killed and whose call
    libvirt carries on with (a domain that is being started is seen as paused)."""
    try:
        with faults():
            call()
    except HostError:
        if state(domain) != wanted:
            raise


def undefine(domain: Domain, drop_state: bool, permit: Permit) -> None:
    """Metadata of snapshots and checkpoints goes with the domain. Firmware variables, TPM state and a saved memory
    image are data: they go only with `drop_state`. Raises HostError when a saved image stands in the way.
    """
    flags = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    permit.check(domain)
    with faults():
        if drop_state:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            flags |= getattr(libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0)
        elif domain.raw.hasManagedSaveImage(0):
            raise HostError(
                "the domain has a saved memory image",
                "start it or remove the image (`virsh managedsave-remove`), or set lifecycle.deletion: delete",
            )
        else:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
        _undefine(domain, flags)


def _undefine(domain: Domain, flags: int) -> None:
    """With as many of the flags as the driver knows."""
    tpm = getattr(libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0) | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
    oldest = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    # libvirt before 8.9 does not know the TPM flags; its test driver knows the oldest ones
    for known in (flags, flags & ~tpm, flags & oldest):
        try:
            domain.raw.undefineFlags(known)
            return
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG or known == flags & oldest:
                raise


def attach(domain: Domain, text: str) -> None:
    """To the running domain only: its configuration is defined apart. Raises NotLive where it has no place for it."""
    try:
        with faults():
            domain.raw.attachDeviceFlags(text, _LIVE)
    except HostError as error:
        # it has no code of its own
        if "No more available PCI" in error.message:
            raise NotLive(error.message) from error
        raise


def detach(domain: Domain, text: str, gone: Callable[[], bool]) -> None:
    """From the running domain, waiting until the guest has released it. Raises HostError when it does not."""
    with faults():
        domain.raw.detachDeviceFlags(text, _LIVE)
    if not _wait(gone):
        raise HostError(
            f"the guest did not release the device within {GUEST_TIMEOUT:g} s",
            "the next apply tries again; a restart of the guest releases it for sure",
        )


def update_device(domain: Domain, text: str) -> None:
    with faults():
        domain.raw.updateDeviceFlags(text, _LIVE)


def set_cpus(domain: Domain, count: int) -> None:
    with faults():
        domain.raw.setVcpusFlags(count, _LIVE)


def set_memory(domain: Domain, bytes_: int) -> None:
    """Move the balloon and wait for the guest to follow. Raises NotLive when it does not: it has no driver for that,
    or needs its memory."""
    with faults():
        before = domain.raw.info()[2] * 1024
        domain.raw.setMemoryFlags(bytes_ // 1024, _LIVE)

        def followed() -> bool:
            now = domain.raw.info()[2] * 1024
            return bool(now >= bytes_ if bytes_ > before else now <= _whole(bytes_))

        if not _wait(followed):
            raise NotLive(
                f"the guest has not moved its memory balloon within {GUEST_TIMEOUT:g} s",
                "it has no driver for it, or needs the memory",
            )


def _whole(bytes_: int) -> int:
    """In MiB, as QEMU counts."""
    return -(-bytes_ // 1048576) * 1048576


def set_text(domain: Domain, title: bool, value: str | None) -> None:
    """Title or description of the running domain."""
    kind = libvirt.VIR_DOMAIN_METADATA_TITLE if title else libvirt.VIR_DOMAIN_METADATA_DESCRIPTION
    with faults():
        domain.raw.setMetadata(kind, value, None, None, _LIVE)


def metadata(domain: Domain, namespace: str, live: bool) -> str | None:
    """The element of this namespace, of the running domain or of its configuration."""
    try:
        with faults():
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            return str(domain.raw.metadata(kind, namespace, _LIVE if live else _CONFIG))
    except NotFound:
        return None


def set_metadata(domain: Domain, element: str | None, prefix: str, namespace: str, live: bool | None = None) -> None:
    """Write that element, or remove it. By default of what is defined, and of what runs, too: it goes on running."""
    with faults():
        both = _CONFIG | (_LIVE if live is None and domain.raw.isActive() else 0)
        kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
        domain.raw.setMetadata(kind, element, prefix, namespace, _LIVE if live else both)


def block_resize(domain: Domain, target: str, capacity: int, volume: Volume, permit: Permit) -> None:
    """Grow a disk of a running domain, which shows this volume; the guest is told."""
    permit.check(volume)
    with faults():
        domain.raw.blockResize(target, capacity, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)


def _wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GUEST_TIMEOUT
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True
