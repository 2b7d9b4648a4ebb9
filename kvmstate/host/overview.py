"""How the domains of a host are, asked of all at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import libvirt

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import domains
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "paused",
}
# https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainPausedReason, those that are nobody's wish
_PAUSED = {
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "an I/O error paused it",
    libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: "its watchdog paused it",
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: "the guest crashed",
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "it is being migrated",
    libvirt.VIR_DOMAIN_PAUSED_SAVE: "its memory is being saved",
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT: "a snapshot is being taken",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: "its migration failed",
}
_CRASHED = "the guest crashed"
_DISK_ERRORS = {
    libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC: "I/O error",
    libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE: "no space is left",
}


@dataclass(frozen=True)
class Seen:
    """`state` is running, paused, stopped or saved; `why` is said where that was nobody's wish."""

    domain: Domain
    state: str
    why: str = ""

    @property
    def active(self) -> bool:
        return self.state in ("running", "paused")


def look(connection: Any, names: Collection[str] | None = None) -> list[Seen]:
    """All domains, or those of these names that exist, by name: one call for all, and one for what is saved."""
    found = domains.all_domains(connection) if names is None else domains.named(connection, names)
    saved = domains.saved(connection, [domain.name for domain in found])
    if not found:
        return []
    with faults():
        raw = connection.domainListGetStats([domain.raw for domain in found], libvirt.VIR_DOMAIN_STATS_STATE, 0)
    states = {Domain(each).uuid: (stats.get("state.state"), stats.get("state.reason")) for each, stats in raw}
    seen = [_seen(domain, *states[domain.uuid], saved) for domain in found if domain.uuid in states]
    return sorted(seen, key=lambda each: each.domain.name)


def _seen(domain: Domain, number: int, reason: int, saved: Any) -> Seen:
    state = STATES.get(number, "stopped")
    if number == libvirt.VIR_DOMAIN_PAUSED:
        return Seen(domain, state, _PAUSED.get(reason, ""))
    if state == "stopped":
        crashed = number == libvirt.VIR_DOMAIN_CRASHED or reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
        return Seen(domain, "saved" if saved(domain) else state, _CRASHED if crashed else "")
    return Seen(domain, state)


def io_errors(domain: Domain) -> list[str]:
    """The last I/O errors of an active domain: a newer libvirt has their text, an older one says which disk has one."""
    messages = getattr(libvirt, "VIR_DOMAIN_MESSAGE_IOERRORS", 0)
    if messages:
        try:
            with faults():
                if found := [str(text) for text in domain.raw.messages(messages)]:
                    return found
        except ConnectionFailed:
            raise
        except HostError:
            pass
    try:
        with faults():
            return [f"{disk}: {_DISK_ERRORS[n]}" for disk, n in domain.raw.diskErrors(0).items() if n in _DISK_ERRORS]
    except ConnectionFailed:
        raise
    except HostError:
        return []
