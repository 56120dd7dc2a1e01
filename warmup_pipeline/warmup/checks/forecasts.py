"""Check on ``phase_forecast``: did yesterday's forecasts say what is known today?

Holds: the judge and its line in :data:`CHECKS`. What is known: the day on which a chip entered the
phase, else what is forecast for it now. Chips that an operator took out of warm-up since, or put into it,
are left out: no forecast knows that.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from statistics import median
from typing import Any, Final

from warmup_pipeline.domain.forecast import CLOSE_DAYS, NOT_TAKING_PART, days_off
from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.store import forecasts
from warmup_pipeline.warmup.checks.scene import few, load_scene
from warmup_pipeline.warmup.checks.spec import CheckSpec, verdict
from warmup_pipeline.warmup.world import World


def forecasts_were_close(world: World, only: str | None = None) -> Verdict:
    """Judge whether yesterday's forecasts of each pool were off by at most two days on the median."""
    pools: dict[str, Any] = {}
    far: list[str] = []
    compared = 0
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        # A question for each local day, not for each pool: most have the same one.
        days: dict[date, list[str]] = defaultdict(list)
        for pool in scene.pools:
            days[local_day(scene.at[pool.name], world.policy.zone)].append(pool.name)
        made: dict[str, list[forecasts.Followed]] = defaultdict(list)
        for today, names in days.items():
            for found in forecasts.followed(tx, names, made_on=today - timedelta(days=1), known_on=today):
                made[found.pool].append(found)
        for pool in scene.pools:
            off = {
                one.chip_id: days_off(
                    one.earliest_date,
                    one.entered_on if one.entered_on is not None else one.earliest_date_again,
                )
                for one in made[pool.name]
                if one.limited_by != NOT_TAKING_PART
                and (
                    one.entered_on is not None
                    or (one.forecast_again and one.limited_by_again != NOT_TAKING_PART)
                )
            }
            compared += len(off)
            if not off:
                continue
            middle = median(off.values())
            pools[pool.name] = {"compared": len(off), "median_days_off": middle, "worst": max(off.values())}
            if middle > CLOSE_DAYS:
                far += [chip_id for chip_id, days in off.items() if days > CLOSE_DAYS]
    named = scene.named(far)
    worst = max((one["median_days_off"] for one in pools.values()), default=None)
    if not compared:
        said = "no forecast of yesterday can be compared yet"
    elif not far:
        said = f"yesterday's forecasts of {compared} chips were off by {worst:g} days on the median"
    else:
        said = (
            f"yesterday's forecasts were off by {worst:g} days on the median, more than {CLOSE_DAYS}: "
            f"{few(named)}; `warmup chips show` says what each waits for"
        )
    return verdict(
        "forecasts_were_close",
        passed=not far,
        summary=said,
        numbers={"compared": compared, "median_days_off": worst, "pools": pools},
        concerned=named,
        severity=Severity.WARN,
    )


CHECKS: Final = (
    CheckSpec(
        "phase_forecast",
        "forecasts_were_close",
        "Yesterday's forecasts of when chips enter their next phases were off by at most two days on the median.",
        forecasts_were_close,
        remedy="See what each chip waits for with `warmup chips show`: a limit that was cut (trust, brake), failing "
        "sends or missing partners slow it down.",
    ),
)
