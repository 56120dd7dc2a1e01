"""The cycles table: which cycle a run belongs to, and that no two overlap.

Holds: beginning, finding, ending cycles, and the lease that keeps a pool's cycles apart. Rows are
never purged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import HealthStatus
from warmup_pipeline.store.bulk import insert_rows, update_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import cycles, pools


@dataclass(frozen=True, slots=True)
class Cycle:
    """One row of ``cycles``: see the column comments there."""

    id: str
    pool: str
    tick: datetime
    day: date
    root_run_id: str | None
    policy: str
    mode: str
    state: str
    began_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    duration_s: float | None
    counts: Mapping[str, Any]
    health: str | None


_columns = tuple(cycles.c[name] for name in Cycle.__dataclass_fields__)


def _cycle(row: sa.RowMapping) -> Cycle:
    return Cycle(**dict(row))


@cache
def _found_by(*names: str) -> sa.Select[Any]:
    return sa.select(*_columns).where(*(cycles.c[name] == sa.bindparam(f"its_{name}") for name in names))


def _first(tx: Transaction, **named: Any) -> Cycle | None:
    asked = {f"its_{name}": value for name, value in named.items()}
    row = tx.connection.execute(_found_by(*named), asked).mappings().first()
    return None if row is None else _cycle(row)


def insert(tx: Transaction, cycle: Cycle) -> None:
    """Insert a new cycle."""
    insert_rows(tx, cycles, [{name: getattr(cycle, name) for name in Cycle.__dataclass_fields__}])


def of_run(tx: Transaction, root_run_id: str) -> Cycle | None:
    """Return the cycle a Dagster run (or its re-execution) belongs to."""
    return _first(tx, root_run_id=root_run_id)


def get(tx: Transaction, cycle_id: str) -> Cycle | None:
    """Return a cycle by its id."""
    return _first(tx, id=cycle_id)


def at_tick(tx: Transaction, pool: str, tick: datetime) -> Cycle | None:
    """Return the pool's cycle of that tick."""
    return _first(tx, pool=pool, tick=tick)


def running(tx: Transaction, pool: str) -> list[Cycle]:
    """Return the pool's cycles that have not ended, oldest first."""
    query = _found_by("pool", "state")
    asked = {"its_pool": pool, "its_state": "running"}
    found = [_cycle(row) for row in tx.connection.execute(query, asked).mappings()]
    return sorted(found, key=lambda cycle: cycle.tick)


def latest(tx: Transaction, pool: str, *, limit: int = 1) -> list[Cycle]:
    """Return the pool's newest cycles by tick, newest first."""
    found = tx.connection.execute(_latest(), {"its_pool": pool, "at_most": limit})
    return [_cycle(row) for row in found.mappings()]


@cache
def _latest() -> sa.Select[Any]:
    at_most = sa.bindparam("at_most", type_=sa.Integer)
    return _found_by("pool").order_by(cycles.c.tick.desc()).limit(at_most)


@remembered(cycles)
def newest_id(tx: Transaction, pool: str) -> str | None:
    """Return the id of the pool's newest cycle by tick."""
    return tx.connection.execute(_newest(), {"in_pool": pool}).scalar()


@cache
def _newest() -> sa.Select[Any]:
    return (
        sa.select(cycles.c.id)
        .where(cycles.c.pool == sa.bindparam("in_pool"))
        .order_by(cycles.c.tick.desc())
        .limit(1)
    )


@remembered(cycles, pools)
def latest_of_each_pool(tx: Transaction, pool: str | None = None) -> dict[str, Cycle]:
    """Return each pool's newest cycle by tick; with ``pool``, that pool's."""
    if pool is None:
        found = tx.connection.execute(_newest_of_each())
    else:
        query = sa.select(*_columns).where(cycles.c.id == _newest().scalar_subquery())
        found = tx.connection.execute(query, {"in_pool": pool})
    return {row["pool"]: _cycle(row) for row in found.mappings()}


@cache
def _newest_of_each() -> sa.Select[Any]:
    """Pool by pool: the newest is the first the index finds, however many cycles there were."""
    other = cycles.alias()
    newest = (
        sa.select(other.c.id)
        .where(other.c.pool == pools.c.name)
        .order_by(other.c.tick.desc())
        .limit(1)
        .scalar_subquery()
    )
    return sa.select(*_columns).where(cycles.c.id.in_(sa.select(newest).select_from(pools)))


def end(
    tx: Transaction,
    cycle_id: str,
    *,
    state: str,
    ended_at: datetime,
    duration_s: float,
    counts: Mapping[str, Any],
) -> None:
    """End a cycle as ``finished`` or ``failed``."""
    row = {
        "id": cycle_id,
        "state": state,
        "ended_at": ended_at,
        "duration_s": duration_s,
        "counts": dict(counts),
    }
    update_rows(tx, cycles, [row])


def reopen(tx: Transaction, cycle_id: str, *, lease_until: datetime) -> None:
    """Let a cycle that failed run on: a step of it is run again."""
    tx.connection.execute(
        sa.update(cycles)
        .where(cycles.c.id == cycle_id)
        .values(state="running", lease_until=lease_until, ended_at=None, duration_s=None)
    )


def abandon(tx: Transaction, cycle_ids: Sequence[str], *, ended_at: datetime) -> None:
    """End cycles whose process is gone as ``failed``; how long they ran is not known."""
    if cycle_ids:
        tx.connection.execute(
            sa.update(cycles).where(cycles.c.id.in_(cycle_ids)).values(state="failed", ended_at=ended_at)
        )


def add_counts(tx: Transaction, cycle: Cycle, counts: Mapping[str, Any]) -> None:
    """Merge counts of a step into the cycle's row."""
    stored = get(tx, cycle.id)
    if stored is not None:
        update_rows(tx, cycles, [{"id": cycle.id, "counts": {**stored.counts, **counts}}])


_SEVERITY = {
    None: -1,
    HealthStatus.HEALTHY.value: 0,
    HealthStatus.DEGRADED.value: 1,
    HealthStatus.CRITICAL.value: 2,
}


def worsen_health(tx: Transaction, cycle_id: str, health: HealthStatus) -> None:
    """Let a check's verdict count: the cycle's health is the worst verdict so far."""
    tx.connection.execute(_worsen(health), {"its_id": cycle_id})


@cache
def _worsen(health: HealthStatus) -> sa.Update:
    milder = [h.value for h in HealthStatus if _SEVERITY[h.value] < _SEVERITY[health.value]]
    return (
        sa.update(cycles)
        .where(
            cycles.c.id == sa.bindparam("its_id"),
            sa.or_(cycles.c.health.is_(None), cycles.c.health.in_(milder)),
        )
        .values(health=health.value)
    )
