"""The guest's NUMA nodes: https://libvirt.org/formatdomain.html#cpu-model-and-topology"""

from typing import Literal

from kvmstate.model.quantity import Size
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import sized

CPUS = r"^\^?[0-9]+(-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)*$"


class Distance(Section):
    """How far another NUMA node is."""

    id: int = xml("@id", required=True, ge=0, doc="The other cell.")
    value: int = xml("@value", required=True, ge=10, le=255, doc="10 is here, 20 twice as far.")


class CellCache(Section):
    """A cache beside the node's memory."""

    level: int = xml("@level", required=True, ge=1, le=255)
    associativity: Literal["none", "direct", "full"] = xml("@associativity", required=True)
    policy: Literal["none", "writeback", "writethrough"] = xml("@policy", required=True)
    size: Size = xml("size", sized("value", "KiB"), required=True, gt=0)
    line: Size = xml("line", sized("value", "B"), required=True, gt=0, doc="Of a cache line.")


class Cell(Section):
    """A NUMA node of the guest."""

    id: int = xml("@id", required=True, ge=0)
    cpus: str | None = xml("@cpus", pattern=CPUS, doc="Its virtual CPUs, such as 0-3,8.")
    memory: Size = xml(".", sized("memory", "KiB"), required=True, gt=0, multiple_of=1024)
    mem_access: Literal["shared", "private"] | None = xml("@memAccess", doc="Whether other processes may have it too.")
    discard: bool | None = xml("@discard", doc="Whether its memory is discarded when the machine ends.")
    distances: list[Distance] = xml_list("distances/sibling", key="id", doc="How far other cells are.")
    caches: list[CellCache] = xml_list("cache", key="level")


class Latency(Section):
    """How long an access takes."""

    initiator: int = xml("@initiator", required=True, ge=0, doc="The cell that asks.")
    target: int = xml("@target", required=True, ge=0, doc="The cell whose memory it is.")
    cache: int | None = xml("@cache", ge=1, doc="The level of its cache, instead of its memory.")
    type: Literal["access", "read", "write"] = xml("@type", required=True)
    value: int = xml("@value", required=True, ge=1, doc="In nanoseconds.")


class Bandwidth(Section):
    """How much goes through."""

    initiator: int = xml("@initiator", required=True, ge=0, doc="The cell that asks.")
    target: int = xml("@target", required=True, ge=0, doc="The cell whose memory it is.")
    cache: int | None = xml("@cache", ge=1, doc="The level of its cache, instead of its memory.")
    type: Literal["access", "read", "write"] = xml("@type", required=True)
    value: Size = xml(".", sized("value", "KiB"), required=True, gt=0, doc="In a second.")


class Numa(Section):
    """The guest's NUMA nodes."""

    cells: list[Cell] = xml_list("cell", key="id", doc="Their memory is the machine's, together.")
    latencies: list[Latency] = xml_list("interconnects/latency")
    bandwidths: list[Bandwidth] = xml_list("interconnects/bandwidth")
