"""A snapshot policy: data for `kvmstate snapshot run`. The words are those of Kubernetes, Flux and restic."""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Tag, model_validator

from kvmstate.kind import Declaration, Form
from kvmstate.kind.health import HealthCheck
from kvmstate.kinds.snapshot_policy.retention import Retention
from kvmstate.model.field import field
from kvmstate.model.quantity import Duration
from kvmstate.model.resource import Model, Resource
from kvmstate.model.schedule import Schedule, check_cron, time_zone


def _zone_name(name: str) -> str:
    time_zone(name)
    return name


def _pattern(pattern: str) -> str:
    if unknown := set(re.findall(r"\{([^{}]*)\}", pattern)) - {"policy", "domain", "time"}:
        raise ValueError(f"a name has no {{{min(unknown)}}}, only {{policy}}, {{domain}} and {{time}}")
    if "{time}" not in pattern:
        raise ValueError("expected a name with {time} in it, which makes it unique")
    return pattern


class Selector(Model):
    """Which virtual machines of the manifests; when names and labels are given, both must match."""

    names: list[str] = field([], doc="Names, or patterns with * and ? of them; ['*'] are all.", examples=[["web-*"]])
    match_labels: dict[str, str] = field({}, doc="All of these labels, in the machine's metadata.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.names and not self.match_labels:
            raise ValueError("say which: names or matchLabels; names: ['*'] are all")
        return self


class BeforeChange(Model):
    """A snapshot right before kvmstate changes a machine, and what becomes of a change that fails."""

    revert: Literal["never", "onFailure"] = field(
        "never",
        doc="onFailure: when the change fails, or the health check after it, the machine's disks and its configuration "
        "go back to the snapshot, and what was written meanwhile is kept as another one. A machine that ran before is "
        "powered off for that only if its lifecycle says restart: now.",
    )
    health_check: HealthCheck | None = field(doc="What a machine that runs after the change has to pass.")


class SnapshotPolicySpec(Declaration):
    """When snapshots of which virtual machines are taken, and which are kept."""

    selector: Selector = field(
        required=True, doc="Which virtual machines of the manifests; when names and labels are given, both must match."
    )
    schedule: Annotated[str, AfterValidator(check_cron)] | None = field(
        max_length=200, doc="Cron's five fields, or @hourly, @daily and the like.", examples=["30 2 * * *"]
    )
    time_zone: Annotated[str, AfterValidator(_zone_name)] = field(
        "UTC", doc="Of the schedule, and of what a day is to retention.", examples=["Europe/Berlin"]
    )
    every: Duration | None = field(
        ge=60, doc="Instead of a schedule: every so often, counted from midnight UTC where that divides."
    )
    retention: Retention = field(required=True, doc="Which of them are kept.")
    mode: Literal["external", "internal"] = field(
        "external", doc="external: an overlay file for each; internal: inside of qcow2 images, with a pause."
    )
    disks: list[str] | None = field(min_length=1, doc="Only the disks of these names. Default: all that are writable.")
    memory: bool = field(False, doc="With the memory of a machine that runs.")
    quiesce: Literal["required", "preferred", "no"] = field(
        "preferred", doc="File systems frozen by the guest agent: a snapshot fails without, goes on without, or no."
    )
    max_chain_depth: int = field(
        16, ge=2, le=23, doc="Backing chains longer than this many files lose the policy's oldest."
    )
    name_pattern: Annotated[str, AfterValidator(_pattern)] = field(
        "{policy}-{time}", max_length=100, pattern=r"^[A-Za-z0-9._{}-]+$", doc="Of {policy}, {domain} and {time}."
    )
    before_change: Annotated[
        Annotated[bool, Tag("short")] | Annotated[BeforeChange, Tag("long")],
        Discriminator(lambda given: "long" if isinstance(given, dict | BeforeChange) else "short"),
    ] = field(
        False,
        doc="Also take one right before kvmstate changes a machine; if it fails, nothing is changed. true, or what "
        "happens when the change fails.",
        examples=[{"revert": "onFailure", "healthCheck": {"guestAgent": True}}],
    )
    only_if_running: bool = field(False, doc="Take none of machines that are shut off.")
    suspend: bool = field(False, doc="Do nothing for now: neither take nor delete any.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.schedule is None) == (self.every is None):
            raise ValueError("a policy has either schedule or every")
        if self.memory and self.quiesce == "required":
            raise ValueError("with memory nothing is quiesced: the guest goes on where it was")
        if self.mode == "internal" and self.disks is not None:
            raise ValueError("an internal snapshot is of all disks: leave disks out")
        return self

    @property
    def when(self) -> Schedule:
        return Schedule(self.schedule, self.every, time_zone(self.time_zone))

    def before_changes(self, running: bool) -> BeforeChange | None:
        """What is to be done around a change of a machine, if anything is."""
        if not self.before_change or self.suspend or (self.only_if_running and not running):
            return None
        return self.before_change if isinstance(self.before_change, BeforeChange) else BeforeChange()

    def selects(self, resource: Resource) -> bool:
        """Whether the policy is about this resource."""
        named = not self.selector.names or any(fnmatchcase(resource.id.name, name) for name in self.selector.names)
        return (
            resource.id.kind == "domain"
            and named
            and self.selector.match_labels.items() <= resource.metadata.labels.items()
        )


FORM = Form(SnapshotPolicySpec)
