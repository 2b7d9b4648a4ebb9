"""What a policy is: a resource that lives in manifests alone, and acts on others, by the clock and around changes.

A kind that is one has a module `policy` whose class `Policy` does what the protocol below says. Everybody else works
with that: the composition root, the daemon, saved plans, what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from kvmstate.errors import KvmstateError
from kvmstate.model.change import Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Observed, Resource

if TYPE_CHECKING:
    # libvirt is loaded when a host is first talked to
    from kvmstate.host import Host
    from kvmstate.kind.steps import Precaution


@dataclass(frozen=True)
class Work:
    """What a policy works with. `now` is in UTC; in a `dry` run nothing is done; `say` is told what is going on. Only
    what this project made is ever deleted."""

    host: Host
    project: str
    now: datetime
    dry: bool = False
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Made:
    """Something that belongs to a policy, such as a snapshot, and when it was made."""

    name: str
    at: datetime


@dataclass(frozen=True)
class Verdict:
    """What becomes of it. It is kept for its `reasons`, such as `daily 3 of 7`; without any it goes: `why`."""

    made: Made
    reasons: tuple[str, ...] = ()
    why: str = ""

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True)
class Told:
    """What the daemon says of an outcome: `reason` is one CamelCase word, as of Kubernetes' events; who wants to hear
    of failures is told by a `warning`."""

    reason: str
    message: str
    warning: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Outcome:
    """What was done (in a dry run: would be) for one policy on one resource, as far as `errors` let it come.

    `created` names what was made, `skipped` says why what is due was not. `verdicts` are about all that the policy has
    there, the new one included; `held` of it would go, and stays because something else needs it.
    """

    policy: Resource
    target: Resource
    created: str = ""
    skipped: str = ""
    verdicts: tuple[Verdict, ...] = ()
    deleted: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    errors: tuple[KvmstateError, ...] = ()
    events: tuple[Told, ...] = ()


@dataclass(frozen=True)
class Gauge:
    """A figure for the metrics, named without the prefix that all have: the seconds since then, at each scrape."""

    name: str
    text: str
    since: datetime
    labels: Mapping[str, str] = field(default_factory=dict)


class Policy(Protocol):
    """One policy of the manifests. What it is about is said in its field `selector`."""

    resource: Resource

    def __init__(self, resource: Resource) -> None: ...

    def selects(self, resource: Resource) -> bool:
        """Whether the policy is about this resource."""

    def next_due(self, after: datetime) -> datetime | None:
        """When it next acts by itself, in its own time zone; None when it does not."""

    def run(self, work: Work, target: Resource, observed: Observed | None) -> Outcome:
        """Do what is due for one that it selects, which is not `observed` where it is not the project's. What fails is
        told in the outcome. Raises ConnectionFailed."""

    def before(self, work: Work, change: Change) -> Precaution:
        """What is to be done around a change."""

    def lacks(self, work: Work, target: Resource) -> str:
        """What a running one lacks right now of what the policy asks of it, such as an answer; else nothing. Raises
        ConnectionFailed."""

    def notes(self, plan: Plan) -> Iterator[str]:
        """What people should know of what it will do around the changes of a plan."""

    def metrics(self, outcomes: Sequence[Outcome]) -> Iterator[Gauge]:
        """Figures of its last run."""

    @staticmethod
    def leftovers(host: Host, project: str, resources: Iterable[Resource]) -> Iterator[str]:
        """Notes on what policies of this kind made, and none of the `resources` looks after any more."""
