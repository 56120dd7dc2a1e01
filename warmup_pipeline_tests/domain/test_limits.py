"""Effective limits."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.limits import Limits, effective_limits, scaled
from warmup_pipeline.domain.policy import HARD_CAPS
from warmup_pipeline.domain.values import Phase, TrustLevel
from warmup_pipeline_tests.domain.presets import CONSERVATIVE, DEFAULT

PHASES = st.sampled_from(Phase)
LEVELS = st.sampled_from(TrustLevel)
POLICIES = st.sampled_from([DEFAULT, CONSERVATIVE])
HUNDREDTHS = st.integers(min_value=0, max_value=100)


@pytest.mark.parametrize(
    ("phase", "level", "braked", "expected"),
    [
        (Phase.OPERACAO, TrustLevel.VERDE, False, Limits(30, 100)),
        (Phase.OPERACAO, TrustLevel.AMARELO, False, Limits(24, 80)),
        (Phase.OPERACAO, TrustLevel.AMARELO, True, Limits(18, 60)),
        (Phase.PRIMEIROS_CONTATOS, TrustLevel.LARANJA, False, Limits(2, 5)),
        (Phase.SETUP, TrustLevel.VERMELHO, False, Limits(1, 1)),
        (Phase.SETUP, TrustLevel.VERMELHO, True, Limits(1, 1)),
        (Phase.EXPANSAO, TrustLevel.VERMELHO, True, Limits(1, 4)),
        (Phase.OPERACAO, TrustLevel.CRITICO, False, Limits(0, 0)),
        (Phase.REPOUSO, TrustLevel.VERDE, False, Limits(0, 0)),
    ],
)
def test_the_limit_is_the_phases_times_trust_times_brake_rounded_down(phase, level, braked, expected):
    assert effective_limits(DEFAULT, phase, level, braked=braked) == expected


@given(policy=POLICIES, phase=PHASES, level=LEVELS, braked=st.booleans())
def test_no_chip_may_ever_send_more_than_its_phase_allows(policy, phase, level, braked):
    limits = effective_limits(policy, phase, level, braked=braked)
    plan = policy.phases[phase]
    assert 0 <= limits.hour <= plan.sends_per_hour <= HARD_CAPS[phase][0]
    assert 0 <= limits.day <= plan.sends_per_day <= HARD_CAPS[phase][1]


@given(policy=POLICIES, phase=PHASES, level=LEVELS, braked=st.booleans())
def test_only_a_zero_makes_a_zero(policy, phase, level, braked):
    limits = effective_limits(policy, phase, level, braked=braked)
    nothing = phase is Phase.REPOUSO or level is TrustLevel.CRITICO
    assert (limits.hour == 0) == nothing
    assert (limits.day == 0) == nothing


@given(policy=POLICIES, phase=PHASES, level=LEVELS)
def test_the_brake_never_allows_more(policy, phase, level):
    free = effective_limits(policy, phase, level, braked=False)
    braked = effective_limits(policy, phase, level, braked=True)
    assert braked.hour <= free.hour
    assert braked.day <= free.day


@given(number=st.integers(min_value=1, max_value=1000), first=HUNDREDTHS, second=HUNDREDTHS)
def test_scaling_is_exact_in_decimals(number, first, second):
    exact = number * first * second // 10_000
    expected = max(1, exact) if first and second else 0
    assert scaled(number, first / 100, second / 100) == expected


def test_a_product_that_binary_fractions_would_miss_is_whole():
    # As binary fractions, 100 × 0.29 is 28.999999999999996.
    assert int(100 * 0.29) == 28
    assert scaled(100, 0.29) == 29 == int(100 * Fraction("0.29"))
