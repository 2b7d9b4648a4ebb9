"""Shares, limits and places: https://libvirt.org/formatdomain.html#cpu-tuning and what follows there"""

from typing import Any, Literal

from kvmstate.model.effect import Effect, Given, When
from kvmstate.model.quantity import Size
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import size, sized

CPUSET = r"^\^?[0-9]+(-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)*$"
# What the kernel has where nobody says otherwise
PERIOD, UNLIMITED = 100_000, -1
SETTABLE = Given(Effect.LIVE, unset=Effect.RESTART)
Scheduler = Literal["batch", "idle", "fifo", "rr"]


def _period(name: str, doc: str) -> Any:
    return xml(
        name,
        same=_same_period,
        effect=Effect.LIVE,
        ge=1000,
        le=1_000_000,
        doc=f"Microseconds in which {doc} have their quota. Default: 100000.",
    )


def _quota(name: str, doc: str) -> Any:
    return xml(
        name,
        same=_same_quota,
        effect=Effect.LIVE,
        ge=-1,
        le=17_592_186_044_415,
        doc=f"Microseconds that {doc} may run in each period; -1: all.",
    )


def _same_period(want: int | None, seen: int | None) -> bool:
    return (want or PERIOD) == (seen or PERIOD)


def _same_quota(want: int | None, seen: int | None) -> bool:
    return want == seen or {want, seen} <= {None, UNLIMITED}


class Vcpu(Section):
    """Whether a single virtual CPU is there."""

    id: int = xml("@id", required=True, ge=0)
    enabled: bool = xml("@enabled", required=True)
    hotpluggable: bool | None = xml("@hotpluggable", lasting=True)
    order: int | None = xml("@order", ge=1, lasting=True, doc="In which it was added.")


class IoThread(Section):
    """A thread of QEMU's that disks may use."""

    id: int = xml("@id", required=True, ge=1)
    thread_pool_min: int | None = xml("@thread_pool_min", effect=SETTABLE, ge=0)
    thread_pool_max: int | None = xml("@thread_pool_max", effect=SETTABLE, ge=0)
    poll_max: int | None = xml(
        "poll/@max", effect=SETTABLE, ge=0, doc="Nanoseconds that it polls at most before it sleeps."
    )
    poll_grow: int | None = xml("poll/@grow", effect=SETTABLE, ge=0, doc="By how much that grows; 0: QEMU's own.")
    poll_shrink: int | None = xml("poll/@shrink", effect=SETTABLE, ge=0, doc="By how much that shrinks; 0: at once.")


class ThrottleGroup(Section):
    """Limits that disks share, each beside its own: see `throttleFilters` of disks."""

    name: str = xml("group_name", required=True, pattern=r"^[A-Za-z0-9_.-]+$")
    total_bytes_sec: int | None = xml("total_bytes_sec", ge=1)
    read_bytes_sec: int | None = xml("read_bytes_sec", ge=1)
    write_bytes_sec: int | None = xml("write_bytes_sec", ge=1)
    total_iops_sec: int | None = xml("total_iops_sec", ge=1)
    read_iops_sec: int | None = xml("read_iops_sec", ge=1)
    write_iops_sec: int | None = xml("write_iops_sec", ge=1)
    total_bytes_sec_max: int | None = xml("total_bytes_sec_max", ge=1, doc="For a while.")
    read_bytes_sec_max: int | None = xml("read_bytes_sec_max", ge=1)
    write_bytes_sec_max: int | None = xml("write_bytes_sec_max", ge=1)
    total_iops_sec_max: int | None = xml("total_iops_sec_max", ge=1)
    read_iops_sec_max: int | None = xml("read_iops_sec_max", ge=1)
    write_iops_sec_max: int | None = xml("write_iops_sec_max", ge=1)
    total_bytes_sec_max_length: int | None = xml("total_bytes_sec_max_length", ge=1, lasting=True, doc="In seconds.")
    read_bytes_sec_max_length: int | None = xml("read_bytes_sec_max_length", ge=1, lasting=True, doc="In seconds.")
    write_bytes_sec_max_length: int | None = xml("write_bytes_sec_max_length", ge=1, lasting=True, doc="In seconds.")
    total_iops_sec_max_length: int | None = xml("total_iops_sec_max_length", ge=1, lasting=True, doc="In seconds.")
    read_iops_sec_max_length: int | None = xml("read_iops_sec_max_length", ge=1, lasting=True, doc="In seconds.")
    write_iops_sec_max_length: int | None = xml("write_iops_sec_max_length", ge=1, lasting=True, doc="In seconds.")
    size_iops_sec: int | None = xml("size_iops_sec", ge=1, doc="Bytes that count as one operation.")


class DefaultIoThread(Section):
    """QEMU's main loop, where it serves disks."""

    thread_pool_min: int | None = xml("@thread_pool_min", ge=0)
    thread_pool_max: int | None = xml("@thread_pool_max", ge=0)


class VcpuPin(Section):
    """Where a virtual CPU runs."""

    vcpu: int = xml("@vcpu", required=True, ge=0)
    cpuset: str = xml(
        "@cpuset", required=True, effect=Effect.LIVE, pattern=CPUSET, doc="The host's CPUs, such as 0-3,^2."
    )


class IoThreadPin(Section):
    """Where an I/O thread runs."""

    iothread: int = xml("@iothread", required=True, ge=1)
    cpuset: str = xml("@cpuset", required=True, effect=Effect.LIVE, pattern=CPUSET, doc="The host's CPUs.")


class VcpuSched(Section):
    """How virtual CPUs are scheduled."""

    vcpus: str = xml("@vcpus", required=True, pattern=CPUSET)
    scheduler: Scheduler = xml("@scheduler", required=True)
    priority: int | None = xml("@priority", ge=1, le=99, doc="Of fifo and rr.")


class IoThreadSched(Section):
    """How I/O threads are scheduled."""

    iothreads: str = xml("@iothreads", required=True, pattern=CPUSET)
    scheduler: Scheduler = xml("@scheduler", required=True)
    priority: int | None = xml("@priority", ge=1, le=99, doc="Of fifo and rr.")


class EmulatorSched(Section):
    """How QEMU's own threads are scheduled."""

    scheduler: Scheduler = xml("@scheduler", required=True)
    priority: int | None = xml("@priority", ge=1, le=99, doc="Of fifo and rr.")


class Cache(Section):
    """How much of a cache."""

    id: int = xml("@id", required=True, ge=0)
    level: int = xml("@level", required=True, ge=1)
    type: Literal["both", "code", "data"] = xml("@type", required=True)
    size: Size = xml(".", sized("size", "KiB"), required=True, gt=0)


class Monitor(Section):
    """What is watched of a cache."""

    level: int = xml("@level", required=True, ge=1)
    vcpus: str = xml("@vcpus", required=True, pattern=CPUSET)


class MemoryMonitor(Section):
    """What is watched of the memory."""

    vcpus: str = xml("@vcpus", required=True, pattern=CPUSET)


class Cachetune(Section):
    """A part of the host's cache for these CPUs."""

    vcpus: str = xml("@vcpus", required=True, pattern=CPUSET)
    caches: list[Cache] = xml_list("cache")
    monitors: list[Monitor] = xml_list("monitor")


class Node(Section):
    """How much of a node's memory bandwidth."""

    id: int = xml("@id", required=True, ge=0)
    bandwidth: int = xml("@bandwidth", required=True, ge=1, doc="In percent, or MB/s, as the host counts.")


class Memorytune(Section):
    """A part of the host's memory bandwidth for these CPUs."""

    vcpus: str = xml("@vcpus", required=True, pattern=CPUSET)
    nodes: list[Node] = xml_list("node", key="id")
    monitors: list[MemoryMonitor] = xml_list("monitor")


class Cputune(Section):
    """Where its CPUs run, and how much."""

    shares: int | None = xml(
        "shares", effect=SETTABLE, ge=1, le=262144, doc="Its weight beside others, which have 1024 or 100."
    )
    period: int | None = _period("period", "virtual CPUs")
    quota: int | None = _quota("quota", "virtual CPUs")
    global_period: int | None = _period("global_period", "all of its threads")
    global_quota: int | None = _quota("global_quota", "all of its threads")
    emulator_period: int | None = _period("emulator_period", "QEMU's own threads")
    emulator_quota: int | None = _quota("emulator_quota", "QEMU's own threads")
    iothread_period: int | None = _period("iothread_period", "I/O threads")
    iothread_quota: int | None = _quota("iothread_quota", "I/O threads")
    vcpupin: list[VcpuPin] = xml_list(
        "vcpupin", key="vcpu", effect=SETTABLE, doc="On which CPUs of the host a virtual one runs."
    )
    emulatorpin: str | None = xml(
        "emulatorpin/@cpuset", effect=SETTABLE, pattern=CPUSET, doc="On which QEMU's own threads run."
    )
    iothreadpin: list[IoThreadPin] = xml_list("iothreadpin", key="iothread", effect=SETTABLE)
    vcpusched: list[VcpuSched] = xml_list("vcpusched", doc="How the host's kernel schedules them.")
    iothreadsched: list[IoThreadSched] = xml_list("iothreadsched")
    emulatorsched: EmulatorSched | None = xml("emulatorsched")
    cachetune: list[Cachetune] = xml_list("cachetune", key="vcpus")
    memorytune: list[Memorytune] = xml_list("memorytune", key="vcpus")


class NumaMemory(Section):
    """From which of the host's NUMA nodes its memory comes."""

    mode: Literal["strict", "preferred", "interleave", "restrictive"] | None = xml("@mode", lasting=True)
    nodeset: str | None = xml(
        "@nodeset",
        effect=When("mode", ("restrictive",), then=Effect.LIVE, otherwise=Effect.RESTART),
        pattern=CPUSET,
        doc="The host's NUMA nodes.",
    )
    placement: Literal["static", "auto"] | None = xml("@placement", lasting=True, doc="auto asks numad.")


class MemNode(Section):
    """From where the memory of one of the guest's NUMA nodes comes."""

    cellid: int = xml("@cellid", required=True, ge=0, doc="The guest's NUMA node.")
    mode: Literal["strict", "preferred", "interleave", "restrictive"] = xml("@mode", required=True)
    nodeset: str = xml("@nodeset", required=True, pattern=CPUSET, doc="The host's NUMA nodes.")


class Numatune(Section):
    """From where in the host its memory comes."""

    memory: NumaMemory | None = xml("memory", doc="From which of the host's NUMA nodes its memory comes.")
    memnodes: list[MemNode] = xml_list("memnode", key="cellid")


def _memory_limit(name: str, doc: str) -> Any:
    return xml(name, size("KiB"), effect=Effect.LIVE, gt=0, doc=doc)


class Memtune(Section):
    """How much of the host's memory it may take."""

    hard_limit: Size | None = _memory_limit("hard_limit", "Past this, the host's kernel ends it.")
    soft_limit: Size | None = _memory_limit("soft_limit", "What it keeps when the host runs short.")
    swap_hard_limit: Size | None = _memory_limit("swap_hard_limit", "Memory and swap together.")
    min_guarantee: Size | None = xml("min_guarantee", size("KiB"), gt=0, doc="What it has at least (VMware).")


class BlkioDevice(Section):
    """Limits on one of the host's disks."""

    path: str = xml("path", required=True, pattern="^/", doc="A block device of the host.")
    weight: int | None = xml("weight", effect=SETTABLE, ge=1, le=1000, doc="Needs libvirt 11.3.")
    read_bytes_sec: int | None = xml("read_bytes_sec", effect=Effect.LIVE, ge=1)
    write_bytes_sec: int | None = xml("write_bytes_sec", effect=Effect.LIVE, ge=1)
    read_iops_sec: int | None = xml("read_iops_sec", effect=Effect.LIVE, ge=1)
    write_iops_sec: int | None = xml("write_iops_sec", effect=Effect.LIVE, ge=1)


class Blkiotune(Section):
    """How much of the host's disks it may take."""

    weight: int | None = xml("weight", effect=SETTABLE, ge=1, le=1000, doc="Its weight beside others.")
    devices: list[BlkioDevice] = xml_list("device", key="path", effect=Effect.LIVE)


class PerfEvent(Section):
    """An event that is counted."""

    name: str = xml("@name", required=True, pattern=r"^[A-Za-z0-9_]+$", doc="As libvirt calls it, such as cpu_cycles.")
    enabled: bool = xml("@enabled", required=True, effect=Effect.LIVE)


class Perf(Section):
    """Events of the host's CPU that are counted."""

    events: list[PerfEvent] = xml_list("event", key="name", effect=Effect.LIVE)


class Resource(Section):
    """Where it is accounted."""

    partition: str | None = xml("partition", pattern="^/", doc="The control group that it runs in.")
    appid: str | None = xml("fibrechannel/@appid", max_length=128, doc="What the storage network calls it.")
