"""When a chip will enter its next phase, and how good that was as a forecast.

Holds: :func:`forecast` (eligibility's own dates, with what holds a chip back besides its criteria) and
:func:`days_off` (a forecast against what is known a day later). Do not add: another way to guess a
date (a criterion's date is ``phases``'), where facts come from.

Source: domain.md, "Phase eligibility" and "Brake and hold": a held chip does not move until its hold
ends; a degraded one not before a day without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from warmup_pipeline.domain.phases import FORESEEABLE_DAYS, Eligibility
from warmup_pipeline.domain.values import OBSERVED_STATUSES, ChipStatus, Phase

NOT_TAKING_PART: Final = "not_taking_part"
HELD: Final = "held"
DEGRADED: Final = "degraded"
"""What limits a chip besides the criteria of its next phase."""

CLOSE_DAYS: Final = 2
"""How many days forecasts may be off on the median."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When one chip enters its next phase at the earliest, at its own pace.

    Attributes:
        phase: the phase it is in.
        next_phase: the phase it waits for.
        earliest_date: the local day; ``None`` where none can be named.
        limited_by: the criterion that takes longest, or ``held``, ``degraded``, ``not_taking_part``;
            ``None`` where nothing does.
    """

    phase: Phase
    next_phase: Phase
    earliest_date: date | None
    limited_by: str | None


def forecast(
    found: Eligibility, *, status: ChipStatus, held: bool, held_until: date | None
) -> Forecast | None:
    """Return a chip's forecast, ``None`` in the last phase.

    Args:
        found: what its next phase needs.
        status: the chip's status: one that takes part, or ``degraded``, which it leaves by itself.
        held: whether its phase does not move (degraded, or braked).
        held_until: the local day on which that ends at the earliest; ``None`` where nothing can be said.
    """
    if found.next is None:
        return None
    if status not in OBSERVED_STATUSES:
        return Forecast(found.current, found.next, None, NOT_TAKING_PART)
    when, why = found.earliest_day, found.limited_by
    if held and when is not None:
        reason = DEGRADED if status is ChipStatus.DEGRADED else HELD
        if held_until is None:
            when, why = None, reason
        elif why is None or held_until > when:
            when, why = max(when, held_until), reason
    return Forecast(found.current, found.next, when, why)


def days_off(earlier: date | None, known: date | None) -> int:
    """Return by how many days a forecast was off.

    Args:
        earlier: the day that was named; ``None`` where none could be.
        known: the day on which the phase was entered, else the day that is named now.
    """
    if earlier is None and known is None:
        return 0
    if earlier is None or known is None:
        # A day that cannot be named lies beyond everything that can.
        return FORESEEABLE_DAYS
    return abs((known - earlier).days)
