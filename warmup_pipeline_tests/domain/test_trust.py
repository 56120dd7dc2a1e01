"""The trust score."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warmup_pipeline.domain.trust import PHASE_BONUS, TrustInputs, trust_score
from warmup_pipeline.domain.values import PHASE_ORDER, Phase, TrustLevel
from warmup_pipeline_tests.domain.presets import DEFAULT

NEW = TrustInputs(
    age_days=0.0,
    response_rate=0.0,
    delivery_rate=None,
    has_sent=False,
    attempted=0,
    restriction_failures=0,
    media_kinds=0,
    errors_24h=0,
    bidirectional=0,
    days_without_error=0.0,
    phase=Phase.REPOUSO,
)
BEST = replace(
    NEW,
    age_days=30.0,
    response_rate=0.5,
    delivery_rate=0.95,
    has_sent=True,
    attempted=100,
    media_kinds=2,
    bidirectional=20,
    days_without_error=7.0,
    phase=Phase.OPERACAO,
)
WORST = replace(NEW, delivery_rate=0.0, has_sent=True, attempted=10, restriction_failures=10, errors_24h=50)

RATES = st.floats(min_value=0, max_value=1)
DAYS = st.floats(min_value=0, max_value=4000)
COUNTS = st.integers(min_value=0, max_value=100_000)


@st.composite
def inputs(draw):
    attempted = draw(COUNTS)
    return TrustInputs(
        age_days=draw(DAYS),
        response_rate=draw(RATES),
        delivery_rate=draw(RATES) if attempted else None,
        has_sent=attempted > 0,
        attempted=attempted,
        restriction_failures=draw(st.integers(min_value=0, max_value=attempted)),
        media_kinds=draw(st.integers(min_value=0, max_value=2)),
        errors_24h=draw(COUNTS),
        bidirectional=draw(COUNTS),
        days_without_error=draw(DAYS),
        phase=draw(st.sampled_from(Phase)),
    )


def score(facts: TrustInputs) -> int:
    return trust_score(facts, DEFAULT).score


def test_a_new_chip_starts_with_its_base_and_full_delivery():
    found = trust_score(NEW, DEFAULT)
    assert found.score == 45
    assert found.level is TrustLevel.LARANJA
    assert found.parts["delivery_rate"] == 15


def test_delivery_is_full_before_the_first_send_and_not_after_a_failed_one():
    assert score(replace(NEW, has_sent=True, attempted=1, delivery_rate=0.0)) == 30


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({"age_days": 30.0}, 15),
        ({"age_days": 10.0}, 5),
        ({"response_rate": 0.5}, 20),
        ({"response_rate": 0.3}, 12),
        ({"delivery_rate": 0.95}, 0),
        ({"delivery_rate": 0.57}, -6),
        ({"restriction_failures": 10}, -20),
        ({"restriction_failures": 5}, -10),
        ({"media_kinds": 1}, 5),
        ({"media_kinds": 2}, 10),
        ({"errors_24h": 5}, -10),
        ({"errors_24h": 2}, -4),
        ({"bidirectional": 20}, 15),
        ({"bidirectional": 4}, 3),
        ({"days_without_error": 7.0}, 10),
        ({"days_without_error": 3.5}, 5),
    ],
)
def test_each_part_is_linear_up_to_its_cap(change, points):
    start = replace(NEW, has_sent=True, attempted=100, delivery_rate=1.0)
    assert score(replace(start, **change)) == 45 + points


@pytest.mark.parametrize(
    "change",
    [
        {"age_days": 3000.0},
        {"response_rate": 1.0},
        {"delivery_rate": 1.0},
        {"media_kinds": 9},
        {"bidirectional": 10_000},
        {"days_without_error": 3000.0},
    ],
)
def test_nothing_counts_beyond_its_cap(change):
    parts = trust_score(replace(BEST, **change), DEFAULT).parts
    assert parts == trust_score(BEST, DEFAULT).parts


def test_delivery_is_full_without_a_send_even_if_a_rate_is_given():
    assert score(replace(NEW, delivery_rate=0.0)) == 45


def test_restrictions_are_a_share_of_the_attempts():
    for attempts, share in ((20, 0.05), (100, 0.01), (1, 1.0)):
        facts = replace(NEW, has_sent=True, attempted=attempts, delivery_rate=1.0, restriction_failures=1)
        points = trust_score(facts, DEFAULT).parts["restrictions"]
        assert points == pytest.approx(-20 * min(1, share / 0.1))


def test_the_phase_bonus_rises_with_the_phase():
    assert [PHASE_BONUS[phase] for phase in PHASE_ORDER] == [0, 1.5, 3, 6, 10.5, 13.5, 15]


def test_the_best_chip_is_clipped_at_a_hundred_and_the_worst_is_at_zero():
    assert math.fsum(trust_score(BEST, DEFAULT).parts.values()) > 100
    assert score(BEST) == 100
    assert score(WORST) == 0
    assert trust_score(WORST, DEFAULT).level is TrustLevel.CRITICO


@pytest.mark.parametrize(
    ("points", "level"),
    [
        (100, TrustLevel.VERDE),
        (80, TrustLevel.VERDE),
        (79, TrustLevel.AMARELO),
        (60, TrustLevel.AMARELO),
        (59, TrustLevel.LARANJA),
        (40, TrustLevel.LARANJA),
        (39, TrustLevel.VERMELHO),
        (20, TrustLevel.VERMELHO),
        (19, TrustLevel.CRITICO),
        (0, TrustLevel.CRITICO),
    ],
)
def test_a_level_begins_at_its_own_score(points, level):
    assert DEFAULT.level_of(points) is level


@given(facts=inputs())
def test_the_score_lies_between_0_and_100_and_has_the_level_of_its_points(facts):
    found = trust_score(facts, DEFAULT)
    assert 0 <= found.score <= 100
    assert found.level is DEFAULT.level_of(found.score)
    assert found.score == min(100, max(0, math.floor(math.fsum(found.parts.values()) + 1e-9)))


@given(facts=inputs(), more=st.floats(min_value=0, max_value=100), name=st.data())
def test_what_is_good_for_a_chip_never_lowers_its_score(facts, more, name):
    field = name.draw(
        st.sampled_from(["age_days", "response_rate", "days_without_error", "bidirectional", "media_kinds"])
    )
    value = getattr(facts, field)
    better = replace(facts, **{field: value + int(more) if isinstance(value, int) else value + more})
    assert score(better) >= score(facts)


@given(facts=inputs(), more=st.integers(min_value=0, max_value=100))
def test_what_is_bad_for_a_chip_never_raises_its_score(facts, more):
    assert score(replace(facts, errors_24h=facts.errors_24h + more)) <= score(facts)
    assert score(replace(facts, restriction_failures=facts.restriction_failures + more)) <= score(facts)


@given(facts=inputs(), worse=RATES)
def test_a_lower_delivery_rate_never_raises_the_score(facts, worse):
    if facts.delivery_rate is not None:
        assert score(replace(facts, delivery_rate=min(worse, facts.delivery_rate))) <= score(facts)


@given(facts=inputs())
def test_a_later_phase_never_lowers_the_score(facts):
    scores = [score(replace(facts, phase=phase)) for phase in PHASE_ORDER]
    assert scores == sorted(scores)


# Exactly 64, which the nearest binary fractions add up to 63.99999999999999.
@example(age=220, sent=57, received=28, attempted=40, failed=37, bidirectional=0, calm=119)
@given(
    age=st.integers(min_value=0, max_value=60 * 24),
    sent=st.integers(min_value=1, max_value=500),
    received=st.integers(min_value=0, max_value=500),
    attempted=st.integers(min_value=1, max_value=500),
    failed=st.integers(min_value=0, max_value=500),
    bidirectional=st.integers(min_value=0, max_value=30),
    calm=st.integers(min_value=0, max_value=14 * 24),
)
def test_the_score_is_that_of_exact_arithmetic(age, sent, received, attempted, failed, bidirectional, calm):
    succeeded = max(0, attempted - failed)
    response = min(Fraction(1), Fraction(received, sent))
    delivery = Fraction(succeeded, attempted)
    exact = (
        30
        + 15 * min(Fraction(1), Fraction(age, 24 * 30))
        + 20 * min(Fraction(1), response / Fraction(1, 2))
        + 15 * min(Fraction(1), delivery / Fraction(95, 100))
        + 15 * min(Fraction(1), Fraction(bidirectional, 20))
        + 10 * min(Fraction(1), Fraction(calm, 24 * 7))
        + Fraction(3, 2)
    )
    facts = replace(
        NEW,
        age_days=age / 24,
        response_rate=float(response),
        delivery_rate=float(delivery),
        has_sent=True,
        attempted=attempted,
        bidirectional=bidirectional,
        days_without_error=calm / 24,
        phase=Phase.SETUP,
    )
    assert score(facts) == min(100, math.floor(exact))
