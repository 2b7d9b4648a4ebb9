"""Which snapshots are kept, and why: a table, what holds of all, and a year in virtual time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmstate.kind.policy import Made, Verdict
from kvmstate.kinds.snapshot_policy.retention import Retention, judge
from kvmstate.model.schedule import Schedule

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
RULES = ("keepLast", "hourly", "daily", "weekly", "monthly", "yearly")


def judged(texts: list[str], zone: str = "UTC", most: int | None = None, **rules: Any) -> dict[str, str]:
    """What becomes of snapshots, by their times."""
    taken = [Made(text, datetime.fromisoformat(text).replace(tzinfo=UTC)) for text in texts]
    return said(judge(taken, Retention.model_validate(rules), NOW, ZoneInfo(zone), most))


def said(verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    return {v.made.name: ", ".join(v.reasons) if v.kept else f"gone: {v.why}" for v in verdicts}


def test_the_last_ones_are_kept() -> None:
    assert judged(["2026-11-22", "2026-11-25", "2026-11-24"], keepLast=2) == {
        "2026-11-25": "last 1 of 2",
        "2026-11-24": "last 2 of 2",
        "2026-11-22": "gone: no rule keeps it",
    }


def test_of_a_day_the_newest_counts_and_days_without_any_are_passed_over() -> None:
    assert judged(["2026-11-25 01:00", "2026-11-24 23:00", "2026-11-24 03:00", "2026-11-20"], daily=3) == {
        "2026-11-25 01:00": "daily 1 of 3",
        "2026-11-24 23:00": "daily 2 of 3",
        "2026-11-24 03:00": "gone: no rule keeps it",
        "2026-11-20": "daily 3 of 3",
    }


def test_every_rule_that_keeps_it_is_a_reason() -> None:
    rules = {"hourly": 1, "daily": 1, "weekly": 2, "monthly": 2, "yearly": 2}
    assert judged(["2025-12-31", "2026-10-31", "2026-11-22", "2026-11-25"], **rules) == {
        "2026-11-25": "hourly 1 of 1, daily 1 of 1, weekly 1 of 2, monthly 1 of 2, yearly 1 of 2",
        "2026-11-22": "weekly 2 of 2",
        "2026-10-31": "monthly 2 of 2",
        "2025-12-31": "yearly 2 of 2",
    }


def test_a_day_is_that_of_the_policys_time_zone() -> None:
    evening_and_night = ["2026-11-24 22:30", "2026-11-24 23:30"]
    assert list(judged(evening_and_night, daily=2).values()) == ["daily 1 of 2", "gone: no rule keeps it"]
    assert list(judged(evening_and_night, "Europe/Berlin", daily=2).values()) == ["daily 1 of 2", "daily 2 of 2"]


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    assert len(set(judged(["2026-10-25 00:30", "2026-10-25 01:30"], "Europe/Berlin", hourly=2).values())) == 2


def test_a_week_belongs_to_one_year_also_at_new_years() -> None:
    assert list(judged(["2025-12-29", "2026-01-04"], weekly=2).values()) == ["weekly 1 of 2", "gone: no rule keeps it"]


def test_what_is_too_old_goes_whatever_keeps_it() -> None:
    assert (
        judged(["2026-11-01", "2026-11-25"], keepLast=5, maxAge="7d")["2026-11-01"] == "gone: it is older than maxAge"
    )


def test_a_maximum_age_alone_keeps_all_that_is_younger() -> None:
    assert judged(["2026-11-24 01:00", "2026-11-24 02:00", "2026-11-01"], maxAge="7d") == {
        "2026-11-24 02:00": "newest",
        "2026-11-24 01:00": "younger than maxAge",
        "2026-11-01": "gone: it is older than maxAge",
    }


def test_the_newest_stays_however_old_it_is() -> None:
    assert judged(["2020-01-01", "2020-01-02"], maxAge="7d")["2020-01-02"] == "newest"


def test_of_a_chain_that_is_too_deep_the_oldest_go() -> None:
    found = judged(["2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25"], most=2, daily=3)
    assert list(found.values()) == [
        "daily 1 of 3",
        "daily 2 of 3",
        "gone: its chain would be too deep",
        "gone: no rule keeps it",
    ]
    assert judged(["2026-11-24", "2026-11-25"], most=-3, daily=3)["2026-11-25"] == "daily 1 of 3"


retentions = st.fixed_dictionaries(
    {}, optional={**{rule: st.integers(1, 5) for rule in RULES}, "maxAge": st.integers(3600, 10**8)}
).filter(bool)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2026, 11, 25)).map(lambda time: time.replace(tzinfo=UTC))
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata"]).map(
    ZoneInfo
)


@given(st.lists(moments, max_size=60), retentions, zones, st.none() | st.integers(-3, 50))
def test_what_always_holds(times: list[datetime], rules: dict[str, int], zone: ZoneInfo, most: int | None) -> None:
    retention = Retention.model_validate(rules)
    taken = [Made(f"s{number}", time) for number, time in enumerate(times)]
    verdicts = judge(taken, retention, NOW, zone, most)
    kept = [verdict.made for verdict in verdicts if verdict.kept]

    assert sorted(v.made.name for v in verdicts) == sorted(t.name for t in taken), "each has one verdict"
    assert all(bool(v.reasons) != bool(v.why) for v in verdicts), "and each says why"
    assert [v.made.at for v in verdicts] == sorted(times, reverse=True)
    if taken:
        assert verdicts[0].kept, "the newest stays"
    counts = [rules[rule] for rule in RULES if rule in rules]
    if counts:
        assert len(kept) <= sum(counts)
        assert len(kept) >= min(len(taken), 1)
    if "keepLast" in rules and "maxAge" not in rules and most is None:
        assert len(kept) >= min(rules["keepLast"], len(taken))
    if most is not None:
        assert len(kept) <= max(most, 1)
    again = judge(kept, retention, NOW, zone, most)
    assert all(verdict.kept for verdict in again), "a second look at what is left drops nothing more"
    assert judge(reversed(taken), retention, NOW, zone, most) == verdicts, "whatever the order they are listed in"


@pytest.mark.parametrize(
    ("zone", "when"),
    [("Europe/Berlin", "5 * * * *"), ("America/Santiago", "5 */3 * * *"), ("Australia/Lord_Howe", "5 */3 * * *")],
)
def test_a_year_of_hours_leaves_what_the_rules_say_at_every_moment(zone: str, when: str) -> None:
    place, start = ZoneInfo(zone), datetime(2026, 1, 1, 5, tzinfo=UTC)
    schedule = Schedule(when, None, place)
    rules = Retention(hourly=6, daily=7, weekly=4, monthly=12, yearly=2)
    kept: list[Made] = []
    every: list[datetime] = []
    now = start
    while (now := schedule.next(now)) < start + timedelta(days=366):
        every.append(now)
        kept = [v.made for v in judge([*kept, Made(f"{now}", now)], rules, now, place) if v.kept]
        assert len(kept) <= 6 + 7 + 4 + 12 + 2
    newest_of_day = {time.astimezone(place).date(): time for time in every}
    newest_of_month = {(day.year, day.month): time for day, time in newest_of_day.items()}
    newest_of_week = {day.isocalendar()[:2]: time for day, time in newest_of_day.items()}
    expected = {
        *every[-6:],
        *list(newest_of_day.values())[-7:],
        *list(newest_of_week.values())[-4:],
        *list(newest_of_month.values())[-12:],
        *list({day.year: time for day, time in newest_of_day.items()}.values())[-2:],
    }
    assert {snapshot.at for snapshot in kept} == expected
