"""The daily summary: what happened on each local day, for everything, each pool and each chip.

Holds: :func:`summarise_cycle` (the running day, as part of a cycle) and :func:`summarise_day` (any
day again, from the log). Source: domain.md, "Daily summary": recomputing a past day from the log
and ``cycles`` gives the same rows.

While a day runs, its cycles are counted up to the tick of the cycle that computes it, whose own
duration and health are not known yet; the first cycle of the next day makes the day final. What
happened on a day can still change on the next one: a delivery is confirmed or fails late, and every
pool expires what its own day left. So the day before is computed again where its log has moved, and in a
day's first cycle those of the last week of which a delivery was told that late.

A cycle writes the rows of its own pool and its chips, whatever other pools there are, and then the row
for everything, which is the sum of the pools'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from operator import attrgetter
from typing import Any, TypeVar

from warmup_pipeline.domain.localtime import day_bounds, local_day
from warmup_pipeline.domain.values import HealthStatus
from warmup_pipeline.store import derivations, summaries
from warmup_pipeline.store.bulk import Columns
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.summaries import ChipDay, PoolDay
from warmup_pipeline.warmup.chip_days import note_chip_days
from warmup_pipeline.warmup.collecting import collecting_later
from warmup_pipeline.warmup.lifecycle import INTERVAL, hold_pool
from warmup_pipeline.warmup.world import StepReport, World

EVERYTHING = "*"
"""Scope id of the row for everything."""

_HEALTH_RANK: Mapping[str | None, int] = {
    None: -1,
    **{health.value: n for n, health in enumerate(HealthStatus)},
}


@collecting_later
def summarise_cycle(world: World, cycle: Cycle) -> StepReport:
    """Bring the cycle's day up to its tick, and earlier days to their end that are not final or have moved."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        earlier = summaries.days_to_finish(tx, cycle.day, cycle.pool)
        rows: Sequence[Mapping[str, Any]] = []
        for day in (*earlier, cycle.day):
            rows = compute_pool_day(
                tx, world, day, cycle.pool, as_of=cycle.tick if day == cycle.day else None
            )
            summaries.replace_pool_day(tx, day, cycle.pool, rows)
        note_chip_days(tx, world, cycle)
        if tx.memory is None:
            derivations.judged(tx, cycle.pool, cycle.tick)
        # Last, and short: the other pools' cycles wait for it.
        summaries.hold_summary(tx)
        for day in (*earlier, cycle.day):
            of_all = compute_everything(tx, day, as_of=cycle.tick)
            summaries.replace_everything(tx, day, of_all)
    return _report(rows[-1] if rows else of_all)


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
    return _report(rows[-1])


def compute_day(
    tx: Transaction,
    world: World,
    day: date,
    *,
    as_of: datetime | None,
    of_pool: Mapping[str, datetime | None] | None = None,
) -> list[dict[str, Any]]:
    """Return the summary's rows of a day: of each chip, each pool, and everything last.

    Args:
        tx: the transaction.
        world: its zone.
        day: the local day.
        as_of: up to which tick cycles are counted; ``None`` for a day that is over.
        of_pool: the same for the pools that were summarised at another tick.
    """
    chip_days = summaries.day_sums(tx, day)
    named = of_pool or {}
    # Pools are summarised at their own ticks, which are mostly the same one.
    pool_days = {until: summaries.cycles_of_day(tx, day, before=until) for until in {as_of, *named.values()}}
    starts = summaries.first_tick(tx)
    ran = {pool for found in pool_days.values() for pool in found}
    rows: list[dict[str, Any]] = []
    for pool in sorted({chip.pool for chip in chip_days.values()} | ran):
        until = named.get(pool, as_of)
        mine = {chip_id: chip for chip_id, chip in chip_days.items() if chip.pool == pool}
        of_pool_day = pool_days[until].get(pool)
        rows += map(dict, _pool_rows(world, day, pool, mine, of_pool_day, starts.get(pool), until))
    rows.sort(key=lambda row: (row["scope"], row["scope_id"]))
    rows.append(
        _everything(day, [row for row in rows if row["scope"] == "pool"], as_of=as_of or _end(world, day))
    )
    return rows


def compute_pool_day(
    tx: Transaction, world: World, day: date, pool: str, *, as_of: datetime | None
) -> Sequence[Mapping[str, Any]]:
    """Return the summary's rows of a day for one pool: its chips, and the pool itself last."""
    chip_days = summaries.day_sums(tx, day, pool)
    pool_day = summaries.cycles_of_day(tx, day, before=as_of, pool=pool).get(pool)
    start = summaries.first_tick(tx, pool).get(pool)
    return _pool_rows(world, day, pool, chip_days, pool_day, start, as_of)


def compute_everything(tx: Transaction, day: date, *, as_of: datetime) -> dict[str, Any]:
    """Return the row for everything, from the stored rows of the pools; ``as_of`` where there is none."""
    return _everything(day, summaries.of_pools(tx, day), as_of=as_of)


def _pool_rows(
    world: World,
    day: date,
    pool: str,
    chip_days: Mapping[str, ChipDay],
    pool_day: PoolDay | None,
    start: datetime | None,
    as_of: datetime | None,
) -> Columns:
    """Return the rows of a pool's chips and of the pool; none where nothing happened and no cycle ran."""
    if not chip_days and pool_day is None:
        return Columns({})
    until = as_of if as_of is not None else _end(world, day)
    rows = _rows(day, "chip", chip_days, until, as_of)
    of_pool = dict(_rows(day, "pool", {pool: _together(chip_days.values())}, until, as_of)[0])
    begins = day_bounds(day, world.policy.zone)[0]
    of_pool |= _cycles(pool_day, start, begins, until)
    return Columns({name: [*column, of_pool[name]] for name, column in rows.by_name.items()})


def _end(world: World, day: date) -> datetime:
    return day_bounds(day, world.policy.zone)[1]


Kept = TypeVar("Kept")

_COUNTS = (
    "sent",
    "received",
    "delivered",
    "failed",
    "unknown",
    "succeeded",
    "failed_attempts",
    "opened",
    "transitions",
)
"""What of a chip's day is one number."""


def _rows(
    day: date, scope: str, days: Mapping[str, ChipDay], until: datetime, as_of: datetime | None
) -> Columns:
    """Return the rows of what was done on a day, by scope id: chips', a pool's, or that for everything."""
    ids = sorted(days)
    each = [days[scope_id] for scope_id in ids]
    activities = [{kind: _sorted(states) for kind, states in _sorted(one.activities).items()} for one in each]
    nothing = [None] * len(ids)
    columns: dict[str, Sequence[Any]] = {
        "day": [day] * len(ids),
        "scope": [scope] * len(ids),
        "scope_id": ids,
        "as_of": [until] * len(ids),
        "final": [as_of is None] * len(ids),
        "planned": [sum(sum(states.values()) for states in types.values()) for types in activities],
        "executed": [sum(states.get("executed", 0) for states in types.values()) for types in activities],
        "activities": activities,
        "conversa_par_succeeded": [one.succeeded for one in each],
        "conversa_par_failed": [one.failed_attempts for one in each],
        "conversa_par_success_rate": [_rate(one.succeeded, one.failed_attempts) for one in each],
        "deferrals": [_sorted(one.deferrals) for one in each],
        "blocks": [_sorted(one.blocks) for one in each],
        "sent": [one.sent for one in each],
        "received": [one.received for one in each],
        "delivered": [one.delivered for one in each],
        "failed": [one.failed for one in each],
        "unknown": [one.unknown for one in each],
        "conversations_opened": [one.opened for one in each],
        "transitions": [one.transitions for one in each],
        "health": nothing,
        "cycles_run": nothing,
        "cycles_missed": nothing,
        "worst_cycle_s": nothing,
    }
    return Columns(columns)


def _sorted(of: Mapping[str, Kept]) -> dict[str, Kept]:
    return dict(sorted(of.items())) if len(of) > 1 else dict(of)


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    # Chip by chip: most have nothing to add.
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def _together(chip_days: Collection[ChipDay]) -> ChipDay:
    """Return what chips did together."""
    every = ChipDay("", **{name: sum(map(attrgetter(name), chip_days)) for name in _COUNTS})
    for one in chip_days:
        for kind, states in one.activities.items():
            _add(every.activities.setdefault(kind, {}), states)
        _add(every.deferrals, one.deferrals)
        _add(every.blocks, one.blocks)
    return every


def _cycles(one: PoolDay | None, start: datetime | None, begins: datetime, until: datetime) -> dict[str, Any]:
    """Return what a pool's cycles were like: a slot of the day without a finished cycle is missed."""
    ran = one.run if one else 0
    slots = 0 if start is None else max(0, (until - max(begins, start)) // INTERVAL)
    return {
        "cycles_run": ran,
        "cycles_missed": max(0, slots - ran),
        "worst_cycle_s": one.worst_s if one else None,
        "health": one.health if one else None,
    }


_SUMMED = (
    "planned",
    "executed",
    "conversa_par_succeeded",
    "conversa_par_failed",
    "sent",
    "received",
    "delivered",
    "failed",
    "unknown",
    "conversations_opened",
    "transitions",
    "cycles_run",
    "cycles_missed",
)


def _everything(day: date, of_pools: Sequence[Mapping[str, Any]], *, as_of: datetime) -> dict[str, Any]:
    """Return the row for everything, from those of the pools.

    Args:
        day: the local day.
        of_pools: the rows of all pools.
        as_of: what it is as of where there is none.
    """
    row = dict(_rows(day, "all", {EVERYTHING: ChipDay("")}, as_of, as_of)[0])
    row |= {name: sum(one[name] or 0 for one in of_pools) for name in _SUMMED}
    row["as_of"] = max((one["as_of"] for one in of_pools), default=as_of)
    row["final"] = all(one["final"] for one in of_pools)
    by_type: dict[str, Counter[str]] = {}
    for one in of_pools:
        for kind, states in one["activities"].items():
            by_type.setdefault(kind, Counter()).update(states)
    row["activities"] = {kind: dict(sorted(states.items())) for kind, states in sorted(by_type.items())}
    for name in ("deferrals", "blocks"):
        merged: Counter[str] = Counter()
        for one in of_pools:
            merged.update(one[name])
        row[name] = dict(sorted(merged.items()))
    row["conversa_par_success_rate"] = _rate(row["conversa_par_succeeded"], row["conversa_par_failed"])
    row["worst_cycle_s"] = max(
        (one["worst_cycle_s"] for one in of_pools if one["worst_cycle_s"] is not None), default=None
    )
    row["health"] = max((one["health"] for one in of_pools), key=lambda h: _HEALTH_RANK[h], default=None)
    return row


def _rate(succeeded: int, failed: int) -> float | None:
    return round(succeeded / (succeeded + failed), 6) if succeeded + failed else None


def _report(row: Mapping[str, Any]) -> StepReport:
    return StepReport(
        {
            name: row[name]
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
