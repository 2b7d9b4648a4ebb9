"""The CPU that the guest sees: https://libvirt.org/formatdomain.html#cpu-model-and-topology"""

from typing import Literal, Self

from pydantic import model_validator

from kvmstate.kinds.virtual_machine.settings import Numa
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF


class Topology(Section):
    """How its virtual CPUs are arranged: all of them together are maxCpus."""

    sockets: int = xml("@sockets", required=True, ge=1, doc="CPU sockets.")
    dies: int | None = xml("@dies", ge=1, lasting=True, doc="In a socket. Default: 1.")
    clusters: int | None = xml("@clusters", ge=1, lasting=True, doc="In a die. Default: 1.")
    cores: int = xml("@cores", required=True, ge=1, doc="Cores of a socket, or a cluster.")
    threads: int = xml("@threads", default=1, ge=1, doc="Threads of a core.")


class CpuFeature(Section):
    """A feature of the CPU."""

    name: str = xml("@name", required=True, pattern=r"^[A-Za-z0-9_.-]+$", doc="As libvirt calls it, such as pdpe1gb.")
    policy: Literal["force", "require", "optional", "disable", "forbid"] | None = xml(
        "@policy", lasting=True, doc="What becomes of it. Default: require."
    )


class CpuCache(Section):
    """What the guest is told of its caches."""

    mode: Literal["emulate", "passthrough", "disable"] = xml("@mode", required=True)
    level: int | None = xml("@level", ge=1, le=3, doc="Which of its caches; mode emulate only.")


class PhysicalAddress(Section):
    """How wide physical addresses are."""

    mode: Literal["emulate", "passthrough"] = xml("@mode", required=True)
    bits: int | None = xml("@bits", ge=1, le=64, doc="How many; mode emulate only.")
    limit: int | None = xml("@limit", ge=1, le=64, doc="At most so many; mode passthrough only.")


class Cpu(Section):
    """What CPU the guest sees."""

    mode: Literal["host-passthrough", "host-model", "maximum", "custom"] | None = xml(
        "@mode", doc="custom needs a model."
    )
    model: str | None = xml("model", doc="A named model, such as EPYC (mode custom).")
    fallback: Literal["allow", "forbid"] | None = xml(
        "model/@fallback", lasting=True, doc="Whether the nearest model that the host has will do."
    )
    vendor_id: str | None = xml("model/@vendor_id", min_length=12, max_length=12, doc="The vendor that the guest sees.")
    vendor: str | None = xml("vendor", pattern=r"^[A-Za-z0-9_]+$", doc="The host's CPU has to be of this one.")
    match: Literal["minimum", "exact", "strict"] | None = xml(
        "@match", lasting=True, doc="How the host's CPU has to fit the model. Default: exact."
    )
    check: Literal["none", "partial", "full"] | None = xml(
        "@check", lasting=True, doc="What libvirt checks before the machine starts."
    )
    migratable: bool | None = xml(
        "@migratable", ON_OFF, lasting=True, doc="Only features that do not hinder a live migration."
    )
    deprecated_features: bool | None = xml("@deprecated_features", ON_OFF, doc="Those that the host's CPU gives up.")
    topology: Topology | None = xml("topology", doc="Sockets, cores and threads that the guest sees.")
    cache: CpuCache | None = xml("cache", doc="What the guest is told of its caches.")
    maxphysaddr: PhysicalAddress | None = xml("maxphysaddr", doc="How wide physical addresses are.")
    features: list[CpuFeature] = xml_list("feature", key="name", doc="Single ones, on top of the mode or the model.")
    numa: Numa | None = xml("numa", doc="The guest's NUMA nodes.")

    @model_validator(mode="after")
    def _model(self) -> Self:
        if self.model and self.mode not in (None, "custom"):
            raise ValueError("cpu.model goes with mode custom")
        if self.mode == "custom" and not self.model:
            raise ValueError("cpu mode custom needs a model")
        return self
