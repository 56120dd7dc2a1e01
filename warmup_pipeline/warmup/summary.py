"""The daily summary: what happened on each local day, for everything, each pool and each chip.

Holds: :func:`summarise_cycle` (the running day, as part of a cycle) and :func:`summarise_day` (any
day again, from the log). Source: domain.md, "Daily summary": recomputing a past day from the log
and ``cycles`` gives the same rows.

While a day runs, its cycles are counted up to the tick of the cycle that computes it, whose own
duration and health are not known yet; the first cycle of the next day makes the day final. What
happened on a day can still change on the next one: a delivery is confirmed or fails late, and every
pool expires what its own day left. So the day before is computed again where its log has moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from warmup_pipeline.domain.localtime import day_bounds, local_day
from warmup_pipeline.domain.values import HealthStatus
from warmup_pipeline.store import summaries
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.summaries import ChipDay, PoolDay
from warmup_pipeline.warmup.chip_days import note_chip_days
from warmup_pipeline.warmup.lifecycle import INTERVAL, hold_pool
from warmup_pipeline.warmup.world import StepReport, World

EVERYTHING = "*"
"""Scope id of the row for everything."""

_HEALTH_RANK: Mapping[str | None, int] = {
    None: -1,
    **{health.value: n for n, health in enumerate(HealthStatus)},
}


def summarise_cycle(world: World, cycle: Cycle) -> StepReport:
    """Bring the cycle's day up to its tick, and earlier days to their end that are not final or have moved."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        summaries.hold_summary(tx)
        for day in summaries.days_to_finish(tx, cycle.day):
            summaries.replace_day(tx, day, compute_day(tx, world, day, as_of=None))
        rows = compute_day(tx, world, cycle.day, as_of=cycle.tick)
        summaries.replace_day(tx, cycle.day, rows)
        note_chip_days(tx, world, cycle)
    return _report(rows)


def summarise_day(world: World, day: date, *, now: datetime | None = None) -> StepReport:
    """Recompute one day from the log; nothing is sent. The running day is summarised up to now.

    Args:
        world: what to work with.
        day: the local day.
        now: the pool clock's time where it is not real time.
    """
    at = now or world.now()
    over = day < local_day(at, world.policy.zone)
    with world.store.write() as tx:
        summaries.hold_summary(tx)
        rows = compute_day(tx, world, day, as_of=None if over else at)
        summaries.replace_day(tx, day, rows)
    return _report(rows)


def compute_day(tx: Transaction, world: World, day: date, *, as_of: datetime | None) -> list[dict[str, Any]]:
    """Return the summary's rows of a day; ``as_of`` is ``None`` for a day that is over."""
    chip_days = summaries.day_sums(tx, day)
    pool_days = summaries.cycles_of_day(tx, day, before=as_of)
    starts = summaries.first_tick(tx)
    begins, ends = day_bounds(day, world.policy.zone)
    until = as_of if as_of is not None else ends
    pools = sorted({chip.pool for chip in chip_days.values()} | set(pool_days))
    rows = [_row(day, "chip", chip_id, [chip], until, as_of) for chip_id, chip in sorted(chip_days.items())]
    for pool in pools:
        mine = [chip for chip in chip_days.values() if chip.pool == pool]
        row = _row(day, "pool", pool, mine, until, as_of)
        rows.append(row | _cycles([pool], pool_days, starts, begins, until))
    everything = _row(day, "all", EVERYTHING, chip_days.values(), until, as_of)
    rows.append(everything | _cycles(pools, pool_days, starts, begins, until))
    return rows


def _row(
    day: date,
    scope: str,
    scope_id: str,
    chip_days: Iterable[ChipDay],
    until: datetime,
    as_of: datetime | None,
) -> dict[str, Any]:
    mine = list(chip_days)
    by_type: dict[str, Counter[str]] = {}
    deferred: Counter[str] = Counter()
    blocked: Counter[str] = Counter()
    for one in mine:
        for kind, states in one.activities.items():
            by_type.setdefault(kind, Counter()).update(states)
        deferred.update(one.deferrals)
        blocked.update(one.blocks)
    succeeded = sum(one.succeeded for one in mine)
    failed = sum(one.failed_attempts for one in mine)
    return {
        "day": day,
        "scope": scope,
        "scope_id": scope_id,
        "as_of": until,
        "final": as_of is None,
        "planned": sum(sum(states.values()) for states in by_type.values()),
        "executed": sum(states["executed"] for states in by_type.values()),
        "activities": {kind: dict(sorted(states.items())) for kind, states in sorted(by_type.items())},
        "conversa_par_succeeded": succeeded,
        "conversa_par_failed": failed,
        "conversa_par_success_rate": round(succeeded / (succeeded + failed), 6)
        if succeeded + failed
        else None,
        "deferrals": dict(sorted(deferred.items())),
        "blocks": dict(sorted(blocked.items())),
        "sent": sum(one.sent for one in mine),
        "received": sum(one.received for one in mine),
        "delivered": sum(one.delivered for one in mine),
        "failed": sum(one.failed for one in mine),
        "unknown": sum(one.unknown for one in mine),
        "conversations_opened": sum(one.opened for one in mine),
        "transitions": sum(one.transitions for one in mine),
        "health": None,
        "cycles_run": None,
        "cycles_missed": None,
        "worst_cycle_s": None,
    }


def _cycles(
    pools: Iterable[str],
    pool_days: Mapping[str, PoolDay],
    starts: Mapping[str, datetime],
    begins: datetime,
    until: datetime,
) -> dict[str, Any]:
    """Return what the cycles of pools were like: a slot of the day without a finished cycle is missed."""
    ran = missed = 0
    worst: float | None = None
    health: str | None = None
    for pool in pools:
        one = pool_days.get(pool)
        ran += one.run if one else 0
        if pool in starts:
            slots = max(0, (until - max(begins, starts[pool])) // INTERVAL)
            missed += max(0, slots - (one.run if one else 0))
        if one is not None:
            worst = max((s for s in (worst, one.worst_s) if s is not None), default=None)
            health = max(health, one.health, key=lambda h: _HEALTH_RANK[h])
    return {"cycles_run": ran, "cycles_missed": missed, "worst_cycle_s": worst, "health": health}


def _report(rows: list[dict[str, Any]]) -> StepReport:
    everything = rows[-1]
    return StepReport(
        {
            name: everything[name]
            for name in (
                "planned",
                "executed",
                "conversa_par_success_rate",
                "sent",
                "received",
                "delivered",
                "failed",
                "unknown",
                "conversations_opened",
                "transitions",
                "cycles_run",
                "cycles_missed",
                "worst_cycle_s",
            )
        }
    )
