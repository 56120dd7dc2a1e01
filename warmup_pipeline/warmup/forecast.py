"""The forecast: when each chip enters its next phase, once a local day.

Holds: :func:`derive_phase_forecast`. It says what ``phase_eligibility`` says at the day's first cycle,
for every chip in one row, and keeps it, so that a day later it can be seen how good it was (the check
``forecasts_were_close``). Do not add: rules (``domain.forecast``, ``domain.phases``).
"""

from __future__ import annotations

from collections import Counter

from warmup_pipeline.domain.forecast import Forecast, forecast
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.phases import eligibility
from warmup_pipeline.domain.values import LISTENER_ROLE, ChipStatus
from warmup_pipeline.store import forecasts
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.derive.eligibility import phase_facts
from warmup_pipeline.warmup.derive.holds import holds
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

_NEVER = frozenset({ChipStatus.BANNED, ChipStatus.CANCELLED})


def derive_phase_forecast(world: World, cycle: Cycle) -> StepReport:
    """Forecast every chip of the pool that has no forecast for the local day yet."""
    zone = world.policy.zone
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        have = forecasts.how_many(tx, cycle.pool, cycle.day)
        lacking = [
            chip
            for chip in forecasts.chips_without_one(tx, cycle.pool, cycle.day)
            if chip.phase.next is not None and chip.role != LISTENER_ROLE and chip.status not in _NEVER
        ]
        made: dict[str, Forecast] = {}
        if lacking:
            facts = phase_facts(tx, cycle.pool, cycle.tick)
            held = holds(tx, world, Scope(cycle.pool), cycle.tick)
            for chip in lacking:
                if chip.id not in facts:
                    continue
                hold = held.get(chip.id)
                until = hold.until if hold is not None else None
                found = forecast(
                    eligibility(facts[chip.id], world.policy, at=cycle.tick, zone=zone),
                    status=chip.status,
                    held=hold is not None,
                    held_until=None if until is None else local_day(max(until, cycle.tick), zone),
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
            "forecast_today": have + len(made),
            "next_move": min(dates).isoformat() if dates else None,
            "limited_by": dict(Counter(one.limited_by for one in made.values() if one.limited_by)),
        }
    )
