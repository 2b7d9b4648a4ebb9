"""What running domains are given: https://libvirt.org/html/libvirt-libvirt-domain.html

Each call changes what runs. What is defined has been written before, in one go with all that a change is of.
"""

from __future__ import annotations

from collections.abc import Mapping

import libvirt

from kvmstate.errors import HostError
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain

# No limit, as libvirt's memory parameters say it
UNLIMITED = 9007199254740991
_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
Parameters = Mapping[str, int | str | bool]


def has_cgroups(domain: Domain) -> bool:
    """Whether the domain is in control groups."""
    try:
        with faults():
            return bool(domain.raw.schedulerParameters())
    except HostError as error:
        if error.code == libvirt.VIR_ERR_OPERATION_INVALID:
            return False
        raise


def set_scheduler(domain: Domain, parameters: Parameters) -> None:
    """Shares, periods and quotas of its CPUs."""
    with faults():
        domain.raw.setSchedulerParametersFlags({**parameters}, _LIVE)


def set_memory_limits(domain: Domain, parameters: Parameters) -> None:
    """In KiB, or UNLIMITED."""
    with faults():
        domain.raw.setMemoryParameters({**parameters}, _LIVE)


def set_numa(domain: Domain, nodeset: str) -> None:
    with faults():
        domain.raw.setNumaParameters({"numa_nodeset": nodeset}, _LIVE)


def set_block_weights(domain: Domain, parameters: Parameters) -> None:
    with faults():
        domain.raw.setBlkioParameters({**parameters}, _LIVE)


def set_disk_limits(domain: Domain, target: str, parameters: Parameters) -> None:
    """Limit the disk with this target; 0 takes a limit away, and others stay."""
    with faults():
        domain.raw.setBlockIoTune(target, {**parameters}, _LIVE)


def set_perf_events(domain: Domain, events: Mapping[str, bool]) -> None:
    with faults():
        domain.raw.setPerfEvents({**events}, _LIVE)


def set_balloon_period(domain: Domain, seconds: int) -> None:
    """Say how often the guest's memory is looked at; 0: never."""
    with faults():
        domain.raw.setMemoryStatsPeriod(seconds, _LIVE)


def pin_vcpu(domain: Domain, vcpu: int, cpuset: str | None) -> None:
    """Have it run on these CPUs of the host, such as `0-3,^2`; None: on all."""
    with faults():
        domain.raw.pinVcpuFlags(vcpu, _cpu_map(domain, cpuset), _LIVE)


def pin_emulator(domain: Domain, cpuset: str | None) -> None:
    with faults():
        domain.raw.pinEmulator(_cpu_map(domain, cpuset), _LIVE)


def pin_iothread(domain: Domain, iothread: int, cpuset: str | None) -> None:
    with faults():
        domain.raw.pinIOThread(iothread, _cpu_map(domain, cpuset), _LIVE)


def add_iothread(domain: Domain, number: int) -> None:
    with faults():
        domain.raw.addIOThread(number, _LIVE)


def remove_iothread(domain: Domain, number: int) -> None:
    """Take a thread away. Raises HostError for one that a disk uses."""
    with faults():
        domain.raw.delIOThread(number, _LIVE)


def set_iothread(domain: Domain, number: int, parameters: Parameters) -> None:
    with faults():
        domain.raw.setIOThreadParams(number, {**parameters}, _LIVE)


def set_vcpu(domain: Domain, number: int, enabled: bool) -> None:
    """Plug a single virtual CPU in, or out."""
    with faults():
        domain.raw.setVcpu(str(number), int(enabled), _LIVE)


def _cpu_map(domain: Domain, cpuset: str | None) -> tuple[bool, ...]:
    count = domain.raw.connect().getCPUMap(0)[0]
    chosen = {*range(count)} if cpuset is None else cpus(cpuset)
    return tuple(number in chosen for number in range(count))


def cpus(cpuset: str) -> set[int]:
    """The numbers in `0-3,^2`."""
    found: set[int] = set()
    for part in cpuset.split(","):
        first, _, last = part.removeprefix("^").partition("-")
        numbers = range(int(first), int(last or first) + 1)
        found = found.difference(numbers) if part.startswith("^") else found.union(numbers)
    return found
