"""The forecast: when each chip enters its next phase, once a local day.

Holds: :func:`derive_phase_forecast`. It says what ``phase_eligibility`` says at the day's first cycle,
for every chip in one row, and keeps it, so that a day later it can be seen how good it was (the check
``forecasts_were_close``). Do not add: rules (``domain.forecast``, ``domain.phases``).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from warmup_pipeline.domain.degrade import RETURN_AFTER
from warmup_pipeline.domain.forecast import Forecast, forecast
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.phases import eligibility
from warmup_pipeline.domain.values import LISTENER_ROLE, ChipStatus
from warmup_pipeline.store import chips, forecasts
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup.derive import brakes, phase_facts
from warmup_pipeline.warmup.world import StepReport, World

_NEVER = frozenset({ChipStatus.BANNED, ChipStatus.CANCELLED})


def derive_phase_forecast(world: World, cycle: Cycle) -> StepReport:
    """Forecast every chip of the pool that has no forecast for the local day yet."""
    zone = world.policy.zone
    with world.store.write() as tx:
        have = forecasts.chips_with_one(tx, cycle.pool, cycle.day)
        lacking = [
            chip
            for chip in chips.of_pool(tx, cycle.pool)
            if chip.id not in have
            and chip.phase.next is not None
            and chip.role != LISTENER_ROLE
            and chip.status not in _NEVER
        ]
        made: dict[str, Forecast] = {}
        if lacking:
            facts = phase_facts(tx, cycle.pool, cycle.tick)
            held = brakes(tx, world, cycle.pool, cycle.tick)
            for chip in lacking:
                if chip.id not in facts:
                    continue
                one = facts[chip.id]
                returns = _returns_at(chip, one.metrics)
                found = forecast(
                    eligibility(one, world.policy, at=cycle.tick, zone=zone),
                    takes_part=chip.takes_part or chip.status is ChipStatus.DEGRADED,
                    held_until=local_day(held[chip.id], zone) if chip.id in held else None,
                    degraded_until=None if returns is None else local_day(max(returns, cycle.tick), zone),
                )
                if found is not None:
                    made[chip.id] = found
            forecasts.add(
                tx,
                [
                    {
                        "day": cycle.day,
                        "chip_id": chip_id,
                        "pool": cycle.pool,
                        "computed_at": cycle.tick,
                        "phase": one.phase,
                        "next_phase": one.next_phase,
                        "earliest_date": one.earliest_date,
                        "limited_by": one.limited_by,
                    }
                    for chip_id, one in made.items()
                ],
            )
    dates = [one.earliest_date for one in made.values() if one.earliest_date is not None]
    return StepReport(
        {
            "forecast_now": len(made),
            "forecast_today": len(have) + len(made),
            "next_move": min(dates).isoformat() if dates else None,
            "limited_by": dict(Counter(one.limited_by for one in made.values() if one.limited_by)),
        }
    )


def _returns_at(chip: Chip, metrics: ChipMetrics) -> datetime | None:
    """Return when a degraded chip may return at the earliest; ``None`` where it is not degraded."""
    if chip.status is not ChipStatus.DEGRADED:
        return None
    errors = [at for at in (metrics.last_error_at, chip.last_error_at) if at is not None]
    return max(errors, default=chip.status_since) + RETURN_AFTER
