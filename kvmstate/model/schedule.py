"""When something is due: by cron, or every so often. No clock is read here, and nothing is looked at.

Cron's five fields mean what they mean to Debian's cron (https://manpages.debian.org/cron/crontab.5.en.html), in a time
zone. When clocks change, a schedule at a fixed hour still runs once that day: in the hour that comes twice the first
time, and for a time that is left out right after the gap. One with `*` hours follows the time that really passes.
All times here are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

# Kubernetes' words for common schedules: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# What claims to be from later than this was recorded by a clock that was wrong: it must not put off what is due
_CLOCKS_DIFFER = timedelta(hours=1)


@dataclass(frozen=True)
class Schedule:
    """`cron` in `zone`, or without it every `every` seconds, counted from 1970 in UTC: every 6 h is at 0, 6, 12, 18."""

    cron: str | None
    every: int | None
    zone: tzinfo

    def next(self, after: datetime) -> datetime:
        """The first time of the schedule after `after`. Raises ValueError when there is none in 50 years."""
        if self.cron is None:
            assert self.every
            passed = int(after.timestamp()) // self.every + 1
            return datetime.fromtimestamp(passed * self.every, UTC)
        from cronsim import CronSim  # takes time to load, and few runs need it

        for time in CronSim(MACROS.get(self.cron, self.cron), after.astimezone(self.zone)):
            # in the hour that comes twice CronSim counts from its first time, also when `after` is in the second
            if (moment := time.astimezone(UTC)) > after:
                return moment
        raise ValueError("this never comes")

    def is_due(self, taken: Iterable[datetime], now: datetime) -> bool:
        """Whether one is to be taken, given the times of all that were. However many were missed, one makes up
        for them; when there is none, the first is due at once.
        """
        known = [time for time in taken if time < now + _CLOCKS_DIFFER]
        return not known or self.next(max(known)) <= now


def check_cron(text: str) -> str:
    """Check a schedule of cron. Raises ValueError."""
    from cronsim import CronSimError

    fields = MACROS.get(text, text).split()
    if len(fields) != 5:
        raise ValueError("expected the five fields of cron (minute, hour, day, month, weekday) such as '30 2 * * *'")
    try:
        Schedule(text, None, UTC).next(datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"{str(error).lower()} in the schedule {text!r}") from None
    except ValueError:
        raise ValueError(f"the schedule {text!r} never comes") from None
    return text


def time_zone(name: str) -> tzinfo:
    """Find a time zone of the IANA database (https://www.iana.org/time-zones). Raises ValueError."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, KeyError, ValueError):
        # a folder of the database is an OSError
        raise ValueError("expected a time zone such as Europe/Berlin or UTC") from None
