"""When a snapshot is due: a table, and what holds of every schedule in every zone."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmstate.model.schedule import Schedule, check_cron, time_zone

# clocks that change by half an hour, at midnight, never; zones of half hours, and south of the equator
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Santiago",
    "Africa/Cairo",
    "Pacific/Auckland",
)
YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def cron(text: str, zone: str = "UTC") -> Schedule:
    return Schedule(text, None, time_zone(zone))


def times(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    found = []
    while (start := schedule.next(start)) < end:
        found.append(start)
    return found


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("30 2 * * *", "UTC", "2026-05-01 02:29", "2026-05-01 02:30"),
        ("30 2 * * *", "UTC", "2026-05-01 02:30", "2026-05-02 02:30"),
        ("0 3 * * mon-fri", "Europe/Berlin", "2026-05-01 12:00", "2026-05-04 03:00"),
        ("*/15 8-17 * * *", "Asia/Kolkata", "2026-05-01 17:50", "2026-05-02 08:00"),
        ("0 0 L * *", "UTC", "2026-02-01 00:00", "2026-02-28 00:00"),
        ("0 0 29 2 *", "UTC", "2026-03-01 00:00", "2028-02-29 00:00"),
        ("@monthly", "America/New_York", "2026-01-15 00:00", "2026-02-01 00:00"),
        # 02:30 is left out on 29 March in Berlin
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 03:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29 03:00", "2026-03-30 02:30"),
        # midnight is left out on 6 September in Santiago
        ("0 0 * * *", "America/Santiago", "2026-09-05 12:00", "2026-09-06 01:00"),
    ],
)
def test_the_next_time_of_a_schedule(schedule: str, zone: str, after: str, expected: str) -> None:
    assert cron(schedule, zone).next(at(after, zone)) == at(expected, zone)


def test_a_fixed_time_in_the_hour_that_comes_twice_comes_once() -> None:
    nightly = cron("30 2 * * *", "Europe/Berlin")
    assert nightly.next(at("2026-10-25 02:00", "Europe/Berlin")) == at("2026-10-25 02:30", "Europe/Berlin")
    tomorrow = at("2026-10-26 02:30", "Europe/Berlin")
    assert nightly.next(at("2026-10-25 02:30", "Europe/Berlin")) == tomorrow
    assert nightly.next(at("2026-10-25 02:10", "Europe/Berlin", fold=1)) == tomorrow


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("schedule", ["30 2 * * *", "15 0 * * *"])
def test_every_day_of_a_year_has_its_one_whatever_its_clocks_do(zone: str, schedule: str) -> None:
    local = [time.astimezone(ZoneInfo(zone)) for time in times(cron(schedule, zone), *YEAR)]
    assert len(local) == len({time.date() for time in local}) == 365


@pytest.mark.parametrize("zone", ZONES)
def test_every_hour_follows_the_time_that_passes(zone: str) -> None:
    gaps = {b - a for a, b in pairwise(times(cron("0 * * * *", zone), *YEAR))}
    # where clocks change by half an hour, full hours are once that far apart
    half = {timedelta(hours=1.5)} if zone == "Australia/Lord_Howe" else set()
    assert gaps == {timedelta(hours=1)} | half


@given(st.integers(60, 10**7), st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)))
def test_every_so_often_is_a_grid_that_starts_in_1970(every: int, after: datetime) -> None:
    start = after.replace(tzinfo=UTC)
    found = Schedule(None, every, UTC).next(start)
    assert start < found <= start + timedelta(seconds=every)
    assert found.timestamp() % every == 0


@given(
    st.sampled_from(ZONES),
    st.tuples(st.sampled_from(["*", "*/20", "0", "30", "59", "5,35"]), st.sampled_from(["*", "*/6", "0", "1-3", "2"])),
    st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1)),
)
def test_the_next_time_is_later_and_none_lies_between(zone: str, fields: tuple[str, str], after: datetime) -> None:
    schedule, start = cron(" ".join((*fields, "* * *")), zone), after.replace(tzinfo=UTC)
    found = schedule.next(start)
    assert start < found <= start + timedelta(hours=49)
    between = start + (found - start) / 2
    assert schedule.next(between) == found


@given(st.sampled_from(ZONES), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.integers(1, 40))
def test_what_was_missed_is_caught_up_once(zone: str, taken: datetime, days: int) -> None:
    nightly, before = cron("30 2 * * *", zone), taken.replace(tzinfo=UTC)
    now = nightly.next(before) + timedelta(days=days)
    assert nightly.is_due([before], now)
    assert not nightly.is_due([before, now], now)
    assert not nightly.is_due([before, now], now + timedelta(minutes=1))


def test_without_any_snapshot_the_first_is_due_at_once() -> None:
    assert cron("@yearly").is_due([], at("2026-05-01"))


def test_it_is_due_from_its_minute_on_and_not_before() -> None:
    nightly, taken = cron("30 2 * * *", "Europe/Berlin"), [at("2026-05-01 02:30:07", "Europe/Berlin")]
    assert not nightly.is_due(taken, at("2026-05-02 02:29:59", "Europe/Berlin"))
    assert nightly.is_due(taken, at("2026-05-02 02:30", "Europe/Berlin"))


def test_a_clock_that_was_a_year_ahead_does_not_stop_a_policy() -> None:
    assert cron("@daily").is_due([at("2026-05-01 00:00:01"), at("2027-05-01")], at("2026-05-02"))


def test_clocks_that_differ_a_little_do_not_make_it_run_twice() -> None:
    assert not cron("@daily").is_due([at("2026-05-02 00:00:20")], at("2026-05-02 00:00:10"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("30 2 * *", "expected the five fields"),
        ("0 30 2 * * *", "expected the five fields"),
        ("@reboot", "expected the five fields"),
        ("61 2 * * *", "bad minute in the schedule"),
        ("0 0 30 2 *", "bad day-of-month in the schedule"),
        (f"{'9' * 5000} 0 * * *", "never comes"),
        ("0 0 31 2 MON#5", ""),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, said: str) -> None:
    if said:
        with pytest.raises(ValueError, match=said):
            check_cron(text)
    else:
        assert check_cron(text) == text


@given(st.text("0123456789*/-,#L@LWMONdaily ", max_size=30))
def test_whatever_is_written_is_a_schedule_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert cron(check_cron(text)).next(YEAR[0]) > YEAR[0]


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "", "/etc/passwd", "../UTC", "a\0b"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a time zone such as"):
        time_zone(name)
