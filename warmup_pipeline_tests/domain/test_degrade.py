"""Degrading, coming back, brake and hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.degrade import (
    BrakeSignal,
    brake_until,
    braked,
    delivery_signal,
    may_return,
    rest_until,
    returns_to,
    should_degrade,
)
from warmup_pipeline.domain.values import ChipStatus, Phase, TrustLevel
from warmup_pipeline_tests.domain.presets import DEFAULT

AT = datetime(2026, 2, 20, 15, tzinfo=UTC)
HOURS = st.integers(min_value=0, max_value=1000).map(lambda hours: AT + timedelta(hours=hours))
SIGNALS = st.lists(
    st.builds(
        BrakeSignal, st.sampled_from(["restriction", "circuit_opened", "unconfirmed_deliveries"]), HOURS
    )
)


@pytest.mark.parametrize(
    ("level", "restriction", "errors", "reason"),
    [
        (TrustLevel.CRITICO, False, 0, "trust_critical"),
        (TrustLevel.VERDE, True, 0, "restriction"),
        (TrustLevel.VERDE, False, 10, "errors_24h"),
        (TrustLevel.VERDE, False, 9, None),
        (TrustLevel.VERMELHO, False, 0, None),
        (TrustLevel.CRITICO, True, 99, "trust_critical"),
        (TrustLevel.LARANJA, True, 99, "restriction"),
    ],
)
def test_lost_trust_a_restriction_or_ten_errors_degrade_a_chip(level, restriction, errors, reason):
    found = should_degrade(trust_level=level, restriction_since_return=restriction, errors_24h=errors)
    assert found == reason


def test_a_degraded_chip_returns_after_a_calm_day_connected_and_trusted():
    yesterday = AT - timedelta(hours=24)
    assert may_return(last_error_at=yesterday, at=AT, connected=True, trust=40)
    assert may_return(last_error_at=None, at=AT, connected=True, trust=40)


@pytest.mark.parametrize(
    ("hours", "connected", "trust"), [(23.99, True, 90), (48, False, 90), (48, True, 39)]
)
def test_a_degraded_chip_stays_while_one_condition_is_missing(hours, connected, trust):
    last = AT - timedelta(hours=hours)
    assert not may_return(last_error_at=last, at=AT, connected=connected, trust=trust)


@pytest.mark.parametrize("phase", Phase)
def test_a_chip_comes_back_to_warming_unless_it_had_reached_operacao(phase):
    expected = ChipStatus.READY if phase is Phase.OPERACAO else ChipStatus.WARMING
    assert returns_to(phase) is expected


def test_without_a_signal_there_is_no_brake():
    assert brake_until([], DEFAULT) is None
    assert not braked(None, AT)


def test_the_brake_ends_three_days_after_the_last_signal():
    signals = [BrakeSignal("restriction", AT), BrakeSignal("circuit_opened", AT - timedelta(days=1))]
    until = brake_until(signals, DEFAULT)
    assert until == AT + timedelta(days=3)
    assert braked(until, until - timedelta(microseconds=1))
    assert not braked(until, until)


@given(signals=SIGNALS, later=st.builds(BrakeSignal, st.just("restriction"), HOURS))
def test_another_signal_moves_the_brakes_end_only_and_never_to_earlier(signals, later):
    before = brake_until(signals, DEFAULT)
    after = brake_until([*signals, later], DEFAULT)
    last = max([s.at for s in signals] + [later.at])
    assert after == last + timedelta(days=3)
    assert before is None or before <= after


def test_a_restricted_chip_rests_a_day():
    assert rest_until(AT, DEFAULT) == AT + timedelta(hours=24)


@pytest.mark.parametrize(
    ("confirmed", "confirmable", "signal"),
    [(15, 20, True), (16, 20, False), (20, 20, False), (0, 20, True), (0, 19, False), (0, 0, False)],
)
def test_under_80_percent_of_the_last_20_confirmed_is_a_signal(confirmed, confirmable, signal):
    assert delivery_signal(confirmed, confirmable) is signal
