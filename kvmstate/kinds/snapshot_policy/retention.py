"""Which snapshots are kept, and why; the others go. No clock is read here, and nothing is looked at.

The rules are restic's (https://restic.readthedocs.io/en/stable/060_forget.html): of each hour, day, week, month and
year that has any the newest counts, and what any rule keeps is kept. The newest of all is always kept. Times are UTC.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from kvmstate.model.field import field
from kvmstate.model.quantity import Duration
from kvmstate.model.resource import Model

if TYPE_CHECKING:
    from kvmstate.kind.policy import Made, Verdict

Count = Annotated[int | None, Field(ge=1, le=10_000)]


class Retention(Model):
    """Which snapshots are kept. What no rule keeps is deleted; the newest never is."""

    keep_last: Count = field(doc="The newest so many.")
    hourly: Count = field(doc="The newest of each of the last so many hours that have one.")
    daily: Count = field(doc="The newest of each of the last so many days that have one.")
    weekly: Count = field(doc="The newest of each of the last so many weeks (from Monday) that have one.")
    monthly: Count = field(doc="The newest of each of the last so many months that have one.")
    yearly: Count = field(doc="The newest of each of the last so many years that have one.")
    max_age: Duration | None = field(
        gt=0, doc="What is older goes, whatever keeps it; without other rules all that is younger stays."
    )

    @model_validator(mode="after")
    def _some_rule(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("say what is kept, such as daily: 7")
        return self


# What of a local time is the same for all that one rule counts as one. The hour that comes twice is two hours.
_BUCKETS: dict[str, Callable[[datetime], object]] = {
    "keep_last": lambda at: object(),
    "hourly": lambda at: (at.date(), at.hour, at.utcoffset()),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}


def judge(
    taken: Iterable["Made"], rules: Retention, now: datetime, zone: tzinfo, most: int | None = None
) -> tuple["Verdict", ...]:
    """What becomes of each, newest first. Days and the like are those of `zone`; of what is kept no more than `most`
    stay, the newest."""
    newest_first = sorted(taken, key=lambda snapshot: (snapshot.at, snapshot.name), reverse=True)
    counted: dict[str, tuple[int, object]] = {}
    from kvmstate.kind.policy import Verdict  # manifests are valid without it

    verdicts: list[Verdict] = []
    for index, snapshot in enumerate(newest_first):
        reasons = []
        local = snapshot.at.astimezone(zone)
        for rule, bucket_of in _BUCKETS.items():
            count, last = counted.get(rule, (0, None))
            bucket, limit = bucket_of(local), getattr(rules, rule) or 0
            if count < limit and bucket != last:
                counted[rule] = count + 1, bucket
                reasons.append(f"{_words(rule)} {count + 1} of {limit}")
        verdicts.append(Verdict(snapshot, *_limited(index, snapshot, tuple(reasons), rules, now)))
    room = len(newest_first) if most is None else max(most, 1)
    for index in [index for index, verdict in enumerate(verdicts) if verdict.kept][room:]:
        verdicts[index] = Verdict(verdicts[index].made, why="its chain would be too deep")
    return tuple(verdicts)


def _limited(
    index: int, snapshot: "Made", reasons: tuple[str, ...], rules: Retention, now: datetime
) -> tuple[tuple[str, ...], str]:
    """Reasons, and why it goes when there are none: the maximum age against what the counting rules say."""
    if index == 0:
        return reasons or ("newest",), ""
    if rules.max_age is not None:
        if now - snapshot.at > timedelta(seconds=rules.max_age):
            return (), "it is older than maxAge"
        if all(getattr(rules, rule) is None for rule in _BUCKETS):
            return ("younger than maxAge",), ""
    return reasons, "" if reasons else "no rule keeps it"


def _words(rule: str) -> str:
    return "last" if rule == "keep_last" else rule
