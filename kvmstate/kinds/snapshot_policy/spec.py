"""A snapshot policy: data for `kvmstate snapshot run`. The words are those of Kubernetes, Flux and restic."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from kvmstate.kind import Declaration
from kvmstate.model.quantity import Duration
from kvmstate.model.resource import Model, Resource
from kvmstate.snapshots.retention import Retention
from kvmstate.snapshots.schedule import Schedule, check_cron, time_zone


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

    names: Annotated[
        list[str], Field(description="Names, or patterns with * and ? of them; ['*'] are all.", examples=[["web-*"]])
    ] = []
    match_labels: Annotated[dict[str, str], Field(description="All of these labels, in the machine's metadata.")] = {}

    @model_validator(mode="after")
    def _something(self) -> Selector:
        if not self.names and not self.match_labels:
            raise ValueError("say which: names or matchLabels; names: ['*'] are all")
        return self


def _host(text: str) -> str:
    if unknown := set(re.findall(r"\{([^{}]*)\}", text)) - {"domain"}:
        raise ValueError(f"a host has no {{{min(unknown)}}}, only {{domain}}")
    return text


class TcpSocket(Model):
    """A port that takes connections, tried from where kvmstate runs."""

    port: Annotated[int, Field(ge=1, le=65535, description="The port.")]
    host: Annotated[
        Annotated[str, AfterValidator(_host)] | None,
        Field(
            min_length=1,
            description="Name or address; {domain} is the machine's name. Default: the addresses that libvirt's DHCP "
            "leases and the guest agent tell.",
            examples=["{domain}.example.org"],
        ),
    ] = None


class HealthCheck(Model):
    """What has to be seen of a machine that runs, within a time; all that is asked for. The words are those of
    Kubernetes' probes."""

    guest_agent: Annotated[bool, Field(description="The guest agent answers.")] = False
    tcp_socket: Annotated[TcpSocket | None, Field(description="A port takes connections.")] = None
    timeout: Annotated[Duration, Field(gt=0, description="How long that may take after a change.")] = 60

    @model_validator(mode="after")
    def _something(self) -> HealthCheck:
        if not self.guest_agent and self.tcp_socket is None:
            raise ValueError("say what is checked: guestAgent: true or tcpSocket")
        return self


class BeforeChange(Model):
    """A snapshot right before kvmstate changes a machine, and what becomes of a change that fails."""

    revert: Annotated[
        Literal["never", "onFailure"],
        Field(
            description="onFailure: when the change fails, or the health check after it, the machine's disks and its "
            "configuration go back to the snapshot, and what was written meanwhile is kept as another one. A machine "
            "that ran before is powered off for that only if its lifecycle says restart: now."
        ),
    ] = "never"
    health_check: Annotated[
        HealthCheck | None, Field(description="What a machine that runs after the change has to pass.")
    ] = None


class SnapshotPolicySpec(Declaration):
    """When snapshots of which virtual machines are taken, and which are kept."""

    selector: Annotated[
        Selector,
        Field(description="Which virtual machines of the manifests; when names and labels are given, both must match."),
    ]
    schedule: Annotated[
        Annotated[str, AfterValidator(check_cron)] | None,
        Field(
            max_length=200, description="Cron's five fields, or @hourly, @daily and the like.", examples=["30 2 * * *"]
        ),
    ] = None
    time_zone: Annotated[
        Annotated[str, AfterValidator(_zone_name)],
        Field(description="Of the schedule, and of what a day is to retention.", examples=["Europe/Berlin"]),
    ] = "UTC"
    every: Annotated[
        Duration | None,
        Field(
            ge=60, description="Instead of a schedule: every so often, counted from midnight UTC where that divides."
        ),
    ] = None
    retention: Annotated[Retention, Field(description="Which of them are kept.")]
    mode: Annotated[
        Literal["external", "internal"],
        Field(description="external: an overlay file for each; internal: inside of qcow2 images, with a pause."),
    ] = "external"
    disks: Annotated[
        list[str] | None,
        Field(min_length=1, description="Only the disks of these names. Default: all that are writable."),
    ] = None
    memory: Annotated[bool, Field(description="With the memory of a machine that runs.")] = False
    quiesce: Annotated[
        Literal["required", "preferred", "no"],
        Field(description="File systems frozen by the guest agent: a snapshot fails without, goes on without, or no."),
    ] = "preferred"
    max_chain_depth: Annotated[
        int, Field(ge=2, le=23, description="Backing chains longer than this many files lose the policy's oldest.")
    ] = 16
    name_pattern: Annotated[
        Annotated[str, AfterValidator(_pattern)],
        Field(max_length=100, pattern=r"^[A-Za-z0-9._{}-]+$", description="Of {policy}, {domain} and {time}."),
    ] = "{policy}-{time}"
    before_change: Annotated[
        Annotated[bool, Tag("short")] | Annotated[BeforeChange, Tag("long")],
        Discriminator(lambda given: "long" if isinstance(given, dict | BeforeChange) else "short"),
        Field(
            description="Also take one right before kvmstate changes a machine; if it fails, nothing is changed. true, "
            "or what happens when the change fails.",
            examples=[{"revert": "onFailure", "healthCheck": {"guestAgent": True}}],
        ),
    ] = False
    only_if_running: Annotated[bool, Field(description="Take none of machines that are shut off.")] = False
    suspend: Annotated[bool, Field(description="Do nothing for now: neither take nor delete any.")] = False

    @model_validator(mode="after")
    def _agree(self) -> SnapshotPolicySpec:
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
