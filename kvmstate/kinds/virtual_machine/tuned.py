"""How limits, weights and places of a running machine are changed: a row of HANDLERS (live.py) each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lxml import etree
from pydantic.alias_generators import to_snake

from kvmstate.errors import NotLive
from kvmstate.host import domains, tuning
from kvmstate.host.objects import Domain
from kvmstate.kinds.virtual_machine.devices.base import item_named
from kvmstate.kinds.virtual_machine.settings.tuning import PERIOD, UNLIMITED
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import FieldChange
from kvmstate.xmlbind import document, parse

# Such of one thing as are changed with one call
Fields = Sequence[FieldChange]
# How libvirt calls those that it does not call as its XML does
_SCHEDULER = {"shares": "cpu_shares", "period": "vcpu_period", "quota": "vcpu_quota"}
_IOTHREAD = {
    **{name: name for name in ("thread_pool_min", "thread_pool_max", "poll_grow", "poll_shrink")},
    "poll_max": "poll_max_ns",
}


def running(domain: Domain) -> VirtualMachineSpec:
    return parse(VirtualMachineSpec, document(domains.xml(domain, inactive=False)))


def scheduler(domain: Domain, fields: Fields) -> None:
    def value(field: FieldChange) -> int:
        default = PERIOD if field.path[-1].lower().endswith("period") else UNLIMITED
        return default if field.new is None else int(field.new)

    names = ((to_snake(field.path[-1]), field) for field in fields)
    tuning.set_scheduler(domain, {_SCHEDULER.get(name, name): value(field) for name, field in names})


def vcpu_pin(domain: Domain, fields: Fields) -> None:
    for field in fields:
        tuning.pin_vcpu(domain, int(field.path[2]), _cpuset(field))


def iothread_pin(domain: Domain, fields: Fields) -> None:
    for field in fields:
        tuning.pin_iothread(domain, int(field.path[2]), _cpuset(field))


def emulator_pin(domain: Domain, fields: Fields) -> None:
    tuning.pin_emulator(domain, fields[0].new)


def _cpuset(field: FieldChange) -> str | None:
    """Of a pin that comes or goes, or of its field."""
    told: str | None = getattr(field.new, "cpuset", field.new)
    return told


def memory_limits(domain: Domain, fields: Fields) -> None:
    tuning.set_memory_limits(
        domain, {to_snake(f.path[-1]): tuning.UNLIMITED if f.new is None else f.new // 1024 for f in fields}
    )


def numa_nodes(domain: Domain, fields: Fields) -> None:
    now = running(domain).numatune
    if now is None or now.memory is None or now.memory.mode != "restrictive":
        raise NotLive("libvirt moves the memory of what runs only with mode restrictive, which it did not start with")
    if fields[0].new is not None:
        tuning.set_numa(domain, fields[0].new)


def block_weight(domain: Domain, fields: Fields) -> None:
    tuning.set_block_weights(domain, {"weight": fields[0].new})


def block_devices(domain: Domain, fields: Fields) -> None:
    """Limit disks of the host's: each limit is a list of pairs, in which 0 takes it away."""
    names = ("weight", "read_bytes_sec", "write_bytes_sec", "read_iops_sec", "write_iops_sec")
    found: dict[str, list[str]] = {}
    for field in fields:
        path = str(field.path[2])
        for name in names if len(field.path) == 3 else (to_snake(field.path[3]),):
            old, new = (
                getattr(value, name, None) if len(field.path) == 3 else value for value in (field.old, field.new)
            )
            if old != new and (new or name != "weight"):
                found.setdefault(f"device_{name}", []).append(f"{path},{new or 0}")
    if found:
        tuning.set_block_weights(domain, {name: ",".join(pairs) for name, pairs in found.items()})


def disk_limits(domain: Domain, fields: Fields) -> None:
    disk = item_named(running(domain).disks, fields[0].path[1])
    named = {"group": "group_name"}
    limits = {named.get(name, name): f.new or 0 for f in fields for name in (to_snake(f.path[-1]),)}
    tuning.set_disk_limits(domain, disk.target, limits)


def perf_events(domain: Domain, fields: Fields) -> None:
    tuning.set_perf_events(
        domain, {str(f.path[2]): bool(f.new if len(f.path) > 3 else f.new and f.new.enabled) for f in fields}
    )


def balloon_period(domain: Domain, fields: Fields) -> None:
    tuning.set_balloon_period(domain, fields[0].new or 0)


def iothreads(domain: Domain, fields: Fields) -> None:
    """Have the threads that are defined by now, where libvirt has numbered them."""
    wanted, have = (_numbers(document(domains.xml(domain, inactive=inactive))) for inactive in (True, False))
    for number in sorted(have - wanted):
        tuning.remove_iothread(domain, number)
    for number in sorted(wanted - have):
        tuning.add_iothread(domain, number)
    defined = parse(VirtualMachineSpec, document(domains.xml(domain))).iothreadids
    for each in defined:
        told = {named: getattr(each, name) for name, named in _IOTHREAD.items()}
        changed = each.id not in have or any(str(each.id) == f.path[1] for f in fields if len(f.path) > 1)
        if changed and (told := {name: value for name, value in told.items() if value is not None}):
            tuning.set_iothread(domain, each.id, told)


def _numbers(node: etree._Element) -> set[int]:
    ids = {int(each.get("id", "0")) for each in node.iterfind("iothreadids/iothread")}
    count = int(node.findtext("iothreads") or 0)
    free = (number for number in range(1, count + len(ids) + 1) if number not in ids)
    return ids | {next(free) for _ in range(count - len(ids))}


HANDLERS: dict[str, Callable[[Domain, Fields], None]] = {
    "cputune": scheduler,
    "cputune.vcpupin": vcpu_pin,
    "cputune.emulatorpin": emulator_pin,
    "cputune.iothreadpin": iothread_pin,
    "memtune": memory_limits,
    "numatune.memory.nodeset": numa_nodes,
    "blkiotune.weight": block_weight,
    "blkiotune.devices": block_devices,
    "perf.events": perf_events,
    "iothreads": iothreads,
    "iothreadids": iothreads,
    "memballoon.statsPeriod": balloon_period,
    "disks[].iotune": disk_limits,
}
