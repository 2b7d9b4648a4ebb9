"""What domains use, by one call for all of them:
https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import libvirt

from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.host.overview import STATES

_WHAT = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
# A machine that is at something else, such as a migration, is told as far as that goes: nobody waits for it
_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


@dataclass(frozen=True)
class Disk:
    """Counters since the domain was started."""

    name: str
    read_bytes: int = 0
    write_bytes: int = 0
    read_requests: int = 0
    write_requests: int = 0
    read_seconds: float = 0
    write_seconds: float = 0
    capacity: int | None = None
    allocation: int | None = None


@dataclass(frozen=True)
class Nic:
    """Counters since the device was made; what the guest receives is `rx`. `name` is the host's device."""

    name: str
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    tx_packets: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True)
class Sample:
    """An active domain at one moment, `at` by the monotonic clock. Memory is in bytes: what the guest has, what of that
    it says that it does not need, and what the host has given for it; None where nobody tells."""

    name: str
    uuid: str
    state: str
    at: float
    cpus: int = 0
    cpu_seconds: float = 0
    memory: int | None = None
    usable: int | None = None
    resident: int | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()

    @property
    def used(self) -> int | None:
        """What the guest uses; where it does not tell, what the host has given for it."""
        return self.memory - self.usable if self.memory is not None and self.usable is not None else self.resident


def samples(connection: Any) -> list[Sample]:
    """Those of all active domains, by name. Raises HostError."""
    with faults():
        found = connection.getAllDomainStats(_WHAT, _FLAGS)
        now = time.monotonic()
        return sorted((_sample(Domain(raw), told, now) for raw, told in found), key=lambda each: each.name)


def _sample(domain: Domain, told: Mapping[str, Any], now: float) -> Sample:
    memory, usable = told.get("balloon.current"), told.get("balloon.usable")
    # of a guest without a balloon driver, what libvirt has made up
    usable = usable if usable and told.get("balloon.available") else None
    resident = told.get("balloon.rss")
    if usable is not None:
        memory = told["balloon.available"]
    cpu = told.get("cpu.time")
    if cpu is None:
        cpu = sum(int(told.get(f"vcpu.{n}.time", 0)) for n in range(int(told.get("vcpu.maximum", 0))))
    return Sample(
        domain.name,
        domain.uuid,
        STATES.get(told.get("state.state", 0), "stopped"),
        now,
        int(told.get("vcpu.current", 0)),
        cpu / 1e9,
        _bytes(memory),
        _bytes(usable),
        _bytes(resident),
        tuple(_disks(told)),
        tuple(_nics(told)),
    )


def _bytes(kib: int | None) -> int | None:
    return None if kib is None else kib * 1024


def _disks(told: Mapping[str, Any]) -> Iterator[Disk]:
    for n in range(int(told.get("block.count", 0))):

        def of(key: str, n: int = n) -> int:
            return int(told.get(f"block.{n}.{key}", 0))

        yield Disk(
            str(told.get(f"block.{n}.name", n)),
            of("rd.bytes"),
            of("wr.bytes"),
            of("rd.reqs"),
            of("wr.reqs"),
            of("rd.times") / 1e9,
            of("wr.times") / 1e9,
            told.get(f"block.{n}.capacity"),
            told.get(f"block.{n}.allocation"),
        )


def _nics(told: Mapping[str, Any]) -> Iterator[Nic]:
    for n in range(int(told.get("net.count", 0))):
        keys = ("rx.bytes", "tx.bytes", "rx.pkts", "tx.pkts", "rx.errs", "tx.errs", "rx.drop", "tx.drop")
        yield Nic(str(told.get(f"net.{n}.name", n)), *(int(told.get(f"net.{n}.{key}", 0)) for key in keys))


@dataclass(frozen=True)
class Usage:
    """What a domain used from one sample to the next, a second. `cpu` is in percent of one CPU; rates are None of a
    domain that was not there before, or was started again."""

    sample: Sample
    cpu: float | None = None
    rates: Mapping[str, float | None] = field(default_factory=dict)


_SUMS = {
    "disk_read_bytes": ("disks", "read_bytes"),
    "disk_write_bytes": ("disks", "write_bytes"),
    "disk_read_requests": ("disks", "read_requests"),
    "disk_write_requests": ("disks", "write_requests"),
    "net_rx_bytes": ("nics", "rx_bytes"),
    "net_tx_bytes": ("nics", "tx_bytes"),
}


def usage(before: list[Sample], now: list[Sample]) -> list[Usage]:
    """The usage of each domain that is there now."""
    known = {each.uuid: each for each in before}
    found = []
    for each in now:
        then = known.get(each.uuid)
        seconds = each.at - then.at if then else 0
        if then is None or seconds <= 0 or each.cpu_seconds < then.cpu_seconds:
            found.append(Usage(each, None, dict.fromkeys(_SUMS)))
            continue
        rates = {}
        for name, (devices, key) in _SUMS.items():
            # one that came is not counted, nor one that went
            old = {device.name: getattr(device, key) for device in getattr(then, devices)}
            new = {device.name: getattr(device, key) for device in getattr(each, devices)}
            rates[name] = sum(max(0, new[device] - old[device]) for device in new.keys() & old.keys()) / seconds
        found.append(Usage(each, 100 * (each.cpu_seconds - then.cpu_seconds) / seconds, rates))
    return found
