"""Checks of what kvmstate keeps on a host, for all projects, and of what interrupted runs have left."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kvmstate.apply import open_lock, open_store
from kvmstate.apply.keep import open_keep
from kvmstate.doctor.finding import Finding, error, note, ok, warning
from kvmstate.errors import HostError
from kvmstate.host import Host, domains
from kvmstate.host.acceleration import PROBE_NAME


def _projects(host: Host) -> list[str]:
    # every project's keep knows of all the others
    return sorted(open_keep(host, "doctor").projects())


def projects(host: Host) -> Iterator[Finding]:
    for name in _projects(host):
        try:
            entries = open_store(host, name).inventory.entries
        except HostError as damage:
            yield error(damage.message, damage.hint)
            continue
        cut = sorted(str(id_) for id_, entry in entries.items() if entry.incomplete or len(entry.specs) > 1)
        if cut:
            yield warning(
                f"project {name}: a run was cut off, or failed, at {', '.join(cut)}",
                "the next apply goes on from there",
            )
        else:
            yield ok(f"project {name} owns {len(entries)} resources")


def locks(host: Host) -> Iterator[Finding]:
    for name in _projects(host):
        if found := open_lock(host, name).holder():
            holder = found[1]
            said = f"project {name} is locked by {holder}, {holder.times}"
            if stale := holder.stale(time.time()):
                yield warning(f"{said}: {stale}", "the next apply takes it over; `kvmstate unlock` removes it")
            else:
                yield note(said)


def probes(host: Host) -> Iterator[Finding]:
    for domain in domains.all_domains(host.connection):
        if domain.name.startswith(PROBE_NAME):
            yield warning(f"domain {domain.name} is left from a probe", f"`virsh destroy {domain.name}`")
    for name in domains.left_trials(host.connection):
        yield warning(
            f"domain {name} is left from an import that was killed",
            f"the next `kvmstate import` of a machine removes it, or `virsh undefine {name} --keep-nvram`",
        )


CHECKS = (projects, locks, probes)
