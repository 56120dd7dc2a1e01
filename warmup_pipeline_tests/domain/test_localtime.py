"""Local days and windows, across clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.localtime import (
    day_bounds,
    in_window,
    local_day,
    next_window_start,
    window_bounds,
)
from warmup_pipeline_tests.domain.presets import DEFAULT, raw_preset

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
ZONES = st.sampled_from(
    [ZoneInfo(name) for name in ("America/Sao_Paulo", "Europe/Lisbon", "Asia/Kolkata", "Atlantic/Azores")]
)
YEAR_2015 = datetime(2015, 1, 1, tzinfo=UTC)
INSTANTS = st.integers(min_value=0, max_value=20 * 365 * 24 * 3600).map(
    lambda seconds: YEAR_2015 + timedelta(seconds=seconds)
)
DAYS = st.dates(min_value=date(2015, 1, 1), max_value=date(2035, 1, 1))


def sao_paulo(year: int, month: int, day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=SAO_PAULO)


def test_a_day_begins_at_local_midnight_not_at_utc_midnight():
    assert local_day(datetime(2026, 2, 21, 2, 59, tzinfo=UTC), SAO_PAULO) == date(2026, 2, 20)
    assert local_day(datetime(2026, 2, 21, 3, 0, tzinfo=UTC), SAO_PAULO) == date(2026, 2, 21)


@given(at=INSTANTS, zone=ZONES)
def test_every_instant_lies_within_the_bounds_of_its_own_day(at, zone):
    start, end = day_bounds(local_day(at, zone), zone)
    assert start <= at < end


@given(day=DAYS, zone=ZONES)
def test_days_follow_each_other_without_gap_or_overlap(day, zone):
    assert day_bounds(day, zone)[1] == day_bounds(day + timedelta(days=1), zone)[0]


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        # Brazil's last clock changes, both at midnight.
        (date(2018, 11, 4), 23),
        (date(2019, 2, 16), 25),
        (date(2026, 2, 20), 24),
    ],
)
def test_a_day_of_a_clock_change_is_an_hour_shorter_or_longer(day, hours):
    start, end = day_bounds(day, SAO_PAULO)
    assert end - start == timedelta(hours=hours)
    assert start.tzinfo is UTC
    assert end.tzinfo is UTC


def test_the_window_opens_at_eight_and_is_closed_at_twenty_local():
    assert window_bounds(date(2026, 2, 20), DEFAULT) == (
        datetime(2026, 2, 20, 11, tzinfo=UTC),
        datetime(2026, 2, 20, 23, tzinfo=UTC),
    )
    assert not in_window(sao_paulo(2026, 2, 20, 7, 59, 59), DEFAULT)
    assert in_window(sao_paulo(2026, 2, 20, 8), DEFAULT)
    assert in_window(sao_paulo(2026, 2, 20, 19, 59, 59), DEFAULT)
    assert not in_window(sao_paulo(2026, 2, 20, 20), DEFAULT)


def test_a_window_until_midnight_ends_with_the_day():
    raw = raw_preset("default")
    raw["window"] = {"start_hour": 20, "end_hour": 24, "hour_weights": dict.fromkeys(range(20, 24), 1)}
    policy = type(DEFAULT).model_validate(raw)
    assert window_bounds(date(2026, 2, 20), policy)[1] == datetime(2026, 2, 21, 3, tzinfo=UTC)
    assert in_window(sao_paulo(2026, 2, 20, 23, 59, 59), policy)
    assert not in_window(sao_paulo(2026, 2, 21, 0), policy)


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        (sao_paulo(2026, 2, 20, 3), sao_paulo(2026, 2, 20, 8)),
        (sao_paulo(2026, 2, 20, 8), sao_paulo(2026, 2, 21, 8)),
        (sao_paulo(2026, 2, 20, 12), sao_paulo(2026, 2, 21, 8)),
        (sao_paulo(2026, 2, 20, 22), sao_paulo(2026, 2, 21, 8)),
    ],
)
def test_the_next_opening_is_todays_only_before_it(at, opens):
    assert next_window_start(at, DEFAULT) == opens


@given(at=INSTANTS)
def test_the_next_opening_is_the_first_one_strictly_after_the_instant(at):
    opens = next_window_start(at, DEFAULT)
    assert at < opens <= at + timedelta(hours=25)
    assert in_window(opens, DEFAULT)
    assert not in_window(opens - timedelta(microseconds=1), DEFAULT)


@given(at=INSTANTS, zone=ZONES)
def test_the_zone_an_instant_is_written_in_changes_nothing(at, zone):
    elsewhere = at.astimezone(zone)
    assert local_day(elsewhere, SAO_PAULO) == local_day(at, SAO_PAULO)
    assert in_window(elsewhere, DEFAULT) == in_window(at, DEFAULT)
    assert next_window_start(elsewhere, DEFAULT) == next_window_start(at, DEFAULT)


def test_an_instant_without_a_zone_is_refused():
    naive = datetime(2026, 2, 20, 8)  # noqa: DTZ001 - the very thing that is refused
    for question in (
        lambda: local_day(naive, SAO_PAULO),
        lambda: in_window(naive, DEFAULT),
        lambda: next_window_start(naive, DEFAULT),
    ):
        with pytest.raises(ValueError, match="time zone"):
            question()
