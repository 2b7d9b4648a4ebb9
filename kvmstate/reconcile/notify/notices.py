"""Which events are news for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kvmstate.manifest.notifications import Topic
from kvmstate.reconcile.status_store import ConditionType, Event, Sync

# Another run's lock is not a failure: it is waited for
_CONDITIONS = [condition for condition in ConditionType if condition is not ConditionType.LOCK]
_TOPICS: dict[str, Topic] = {
    "DriftCorrected": "drift",
    Sync.DRIFTED.value: "drift",
    Sync.FAILED.value: "failure",
    Sync.BLOCKED.value: "failure",
    Sync.NOT_OWNED.value: "failure",
    "EventStoreFailed": "failure",
    "ListenFailed": "failure",
    "Recovered": "recovery",
    **{condition.value[0]: "failure" for condition in _CONDITIONS},
    **{condition.value[1]: "recovery" for condition in _CONDITIONS},
}
# What is over, and what says that it is, are about the same thing
_ABOUT = {reason: condition.value[0] for condition in _CONDITIONS for reason in condition.value}


@dataclass(frozen=True)
class Notice:
    """`about` is what it is news of: a resource's address, or what is wrong with all at once. `held_back` counts those
    that this one stands for, by topic."""

    topic: Topic
    about: str
    reason: str
    message: str
    time: datetime
    project: str
    host: str
    resource: str = ""
    hint: str = ""
    revision: str = ""
    held_back: Mapping[str, int] = field(default_factory=dict)


class NotSent(Exception):
    """Says why, without secrets."""


# Raises NotSent
Sender = Callable[[Notice], None]


def notice(event: Event, project: str, host: str) -> Notice | None:
    topic = _TOPICS.get(event.reason) or ("failure" if event.failure else None)
    if topic is None:
        return None
    about = event.resource or _ABOUT.get(event.reason, event.reason)
    return Notice(
        topic,
        about,
        event.reason,
        event.message,
        event.time,
        project,
        host,
        event.resource,
        event.hint,
        event.revision,
    )
