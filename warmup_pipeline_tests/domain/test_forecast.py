"""The trap: a forecast that forgets what holds a chip back, or that nobody can find wrong."""

from __future__ import annotations

from datetime import date

import pytest

from warmup_pipeline.domain.forecast import DEGRADED, HELD, NOT_TAKING_PART, days_off, forecast
from warmup_pipeline.domain.phases import FORESEEABLE_DAYS, Eligibility
from warmup_pipeline.domain.values import Phase

TENTH, TWELFTH, TWENTIETH = date(2026, 3, 10), date(2026, 3, 12), date(2026, 3, 20)


def found(
    earliest: date | None, limited_by: str | None, following: Phase | None = Phase.EXPANSAO
) -> Eligibility:
    return Eligibility(
        Phase.PRIMEIROS_CONTATOS,
        following,
        (),
        eligible=limited_by is None,
        earliest_day=earliest,
        limited_by=limited_by,
    )


@pytest.mark.parametrize(
    ("eligibility", "held", "degraded", "expected"),
    [
        (found(TWELFTH, "sent"), None, None, (TWELFTH, "sent")),
        (found(TWELFTH, "sent"), TENTH, None, (TWELFTH, "sent")),
        (found(TWELFTH, "sent"), TWENTIETH, None, (TWENTIETH, HELD)),
        (found(TENTH, None), TENTH, None, (TENTH, HELD)),
        (found(TENTH, "sent"), TWELFTH, TWENTIETH, (TWENTIETH, DEGRADED)),
        (found(None, "trust"), TWELFTH, None, (None, "trust")),
        (found(TENTH, None), None, None, (TENTH, None)),
    ],
)
def test_a_forecast_is_the_criteria_own_day_or_the_end_of_what_holds_the_chip_back(
    eligibility: Eligibility,
    held: date | None,
    degraded: date | None,
    expected: tuple[date | None, str | None],
) -> None:
    one = forecast(eligibility, takes_part=True, held_until=held, degraded_until=degraded)
    assert one is not None
    assert (one.earliest_date, one.limited_by) == expected


def test_a_chip_out_of_warm_up_has_no_date_and_one_in_the_last_phase_no_forecast() -> None:
    out = forecast(found(TENTH, "sent"), takes_part=False, held_until=None, degraded_until=None)
    assert out is not None
    assert (out.earliest_date, out.limited_by) == (None, NOT_TAKING_PART)
    last = found(None, None, following=None)
    assert forecast(last, takes_part=True, held_until=None, degraded_until=None) is None


def test_a_day_that_can_no_longer_be_named_is_far_from_every_day() -> None:
    assert days_off(TENTH, TWELFTH) == days_off(TWELFTH, TENTH) == 2
    assert days_off(TENTH, None) == days_off(None, TENTH) == FORESEEABLE_DAYS
    assert days_off(None, None) == 0
