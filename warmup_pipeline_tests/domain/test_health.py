"""Health of verdicts, and the verdict on CONVERSA_PAR."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.health import (
    STALE_AFTER,
    Severity,
    Verdict,
    conversa_par_success,
    health_of,
)
from warmup_pipeline.domain.values import HealthStatus

PASSES = (True, None)
WARNS = (False, Severity.WARN)
FAILS = (False, Severity.ERROR)
COUNTS = st.integers(min_value=0, max_value=10_000)
PAIRS = st.tuples(COUNTS, COUNTS)


def verdict(severity: Severity, *, passed: bool) -> Verdict:
    return Verdict("a_check", passed, severity, "what it says")


WELL = verdict(Severity.ERROR, passed=True)
WARNING = verdict(Severity.WARN, passed=False)
FAILURE = verdict(Severity.ERROR, passed=False)


def judged(found: Verdict) -> tuple[bool, Severity | None]:
    return found.passed, None if found.passed else found.severity


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([WELL, verdict(Severity.WARN, passed=True)], HealthStatus.HEALTHY),
        ([WELL, WARNING], HealthStatus.DEGRADED),
        ([WELL, WARNING, FAILURE], HealthStatus.CRITICAL),
        ([FAILURE], HealthStatus.CRITICAL),
        ([], HealthStatus.CRITICAL),
    ],
)
def test_the_worst_verdict_decides_and_silence_is_never_healthy(verdicts, status):
    assert health_of(iter(verdicts)) is status


@given(st.lists(st.sampled_from([WELL, WARNING, FAILURE]), min_size=1), st.randoms())
def test_the_order_of_verdicts_changes_nothing(verdicts, random):
    shuffled = list(verdicts)
    random.shuffle(shuffled)
    assert health_of(shuffled) is health_of(verdicts)


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        ((5, 0), PASSES),
        ((4, 1), PASSES),
        ((8, 2), PASSES),
        ((79, 21), WARNS),
        ((50, 50), WARNS),
        ((49, 51), FAILS),
        ((0, 5), FAILS),
    ],
)
def test_80_percent_passes_50_warns_and_less_fails(today, expected):
    assert judged(conversa_par_success(today, (0, 0), sends_due_today=True)) == expected


def test_fewer_than_five_attempts_today_are_judged_with_the_last_24_hours():
    found = conversa_par_success((4, 0), (4, 18), sends_due_today=True)
    assert judged(found) == FAILS
    assert found.numbers["period"] == "last_24h"
    assert found.numbers["success_rate"] == pytest.approx(4 / 22)
    enough = conversa_par_success((5, 0), (5, 18), sends_due_today=True)
    assert judged(enough) == PASSES
    assert enough.numbers["period"] == "today"


def test_no_attempt_today_warns_only_where_sends_were_due():
    assert judged(conversa_par_success((0, 0), (10, 0), sends_due_today=True)) == WARNS
    assert judged(conversa_par_success((0, 0), (10, 0), sends_due_today=False)) == PASSES
    assert judged(conversa_par_success((0, 0), (0, 0), sends_due_today=True)) == WARNS
    assert judged(conversa_par_success((0, 0), (0, 0), sends_due_today=False)) == PASSES


def test_silence_does_not_hide_a_failing_day_before():
    assert judged(conversa_par_success((0, 0), (1, 9), sends_due_today=True)) == FAILS


def test_the_summary_says_the_numbers_and_the_silence():
    found = conversa_par_success((9, 1), (9, 1), sends_due_today=True)
    assert found.summary == "9 of 10 CONVERSA_PAR attempts succeeded today (90.0%)"
    silent = conversa_par_success((0, 0), (0, 0), sends_due_today=True)
    assert "none was made today although sends were due" in silent.summary


@given(today=PAIRS, last_24h=PAIRS, due=st.booleans())
def test_the_verdict_never_contradicts_its_own_numbers(today, last_24h, due):
    found = conversa_par_success(today, last_24h, sends_due_today=due)
    succeeded, failed = today if sum(today) >= 5 else last_24h
    assert (found.numbers["succeeded"], found.numbers["failed"]) == (succeeded, failed)
    attempts = succeeded + failed
    if found.passed:
        assert attempts == 0 or 10 * succeeded >= 8 * attempts
    assert (judged(found) == FAILS) == (attempts > 0 and 2 * succeeded < attempts)


def test_a_verdict_is_stale_after_ten_minutes():
    assert timedelta(minutes=10) == STALE_AFTER
