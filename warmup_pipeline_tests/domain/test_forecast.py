"""The trap: a forecast that forgets what holds a chip back, or that nobody can find wrong."""

from __future__ import annotations

from datetime import date

import pytest

from warmup_pipeline.domain.forecast import DEGRADED, HELD, NOT_TAKING_PART, days_off, forecast
from warmup_pipeline.domain.phases import FORESEEABLE_DAYS, Eligibility
from warmup_pipeline.domain.values import ChipStatus, Phase

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


WARMING, SICK = ChipStatus.WARMING, ChipStatus.DEGRADED


@pytest.mark.parametrize(
    ("eligibility", "status", "held_until", "expected"),
    [
        (found(TWELFTH, "sent"), WARMING, TENTH, (TWELFTH, "sent")),
        (found(TWELFTH, "sent"), WARMING, TWENTIETH, (TWENTIETH, HELD)),
        (found(TENTH, None), WARMING, TENTH, (TENTH, HELD)),
        (found(TENTH, "sent"), SICK, TWENTIETH, (TWENTIETH, DEGRADED)),
        (found(TENTH, "sent"), SICK, None, (None, DEGRADED)),
        (found(None, "trust"), WARMING, TWELFTH, (None, "trust")),
    ],
)
def test_a_held_chip_is_forecast_for_the_end_of_its_hold_or_of_what_it_lacks(
    eligibility: Eligibility,
    status: ChipStatus,
    held_until: date | None,
    expected: tuple[date | None, str | None],
) -> None:
    one = forecast(eligibility, status=status, held=True, held_until=held_until)
    assert one is not None
    assert (one.earliest_date, one.limited_by) == expected


@pytest.mark.parametrize("limited_by", ["sent", None])
def test_a_chip_that_nothing_holds_is_forecast_for_its_criteria_own_day(limited_by: str | None) -> None:
    one = forecast(found(TWELFTH, limited_by), status=WARMING, held=False, held_until=None)
    assert one is not None
    assert (one.earliest_date, one.limited_by) == (TWELFTH, limited_by)


def test_a_chip_out_of_warm_up_has_no_date_and_one_in_the_last_phase_no_forecast() -> None:
    out = forecast(found(TENTH, "sent"), status=ChipStatus.PAUSED, held=False, held_until=None)
    assert out is not None
    assert (out.earliest_date, out.limited_by) == (None, NOT_TAKING_PART)
    last = found(None, None, following=None)
    assert forecast(last, status=ChipStatus.READY, held=False, held_until=None) is None


def test_a_day_that_can_no_longer_be_named_is_far_from_every_day() -> None:
    assert days_off(TENTH, TWELFTH) == days_off(TWELFTH, TENTH) == 2
    assert days_off(TENTH, None) == days_off(None, TENTH) == FORESEEABLE_DAYS
    assert days_off(None, None) == 0
