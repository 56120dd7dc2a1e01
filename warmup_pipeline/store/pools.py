"""Pools and their clocks.

Holds: creating and listing pools, and the stepped clock of a demo pool, which moves five minutes
per cycle run whoever runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import ClockKind
from warmup_pipeline.store.bulk import insert_new_rows
from warmup_pipeline.store.engine import PoolNotFound, Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import chips, pools


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool and its clock; ``next_tick`` is set for a stepped clock only."""

    name: str
    clock: ClockKind
    next_tick: datetime | None

    def now(self, real: datetime) -> datetime:
        """Return the pool's time: real time, or where its stepped clock stands."""
        return self.next_tick if self.next_tick is not None else real


def _pool(row: Any) -> Pool:
    return Pool(row[0], ClockKind(row[1]), row[2])


_columns = (pools.c.name, pools.c.clock, pools.c.next_tick)


def ensure(tx: Transaction, name: str, *, at: datetime) -> None:
    """Create a pool on the system clock unless it exists."""
    insert_new_rows(tx, pools, [{"name": name, "clock": ClockKind.SYSTEM, "created_at": at}])


def step_from(tx: Transaction, name: str, tick: datetime, *, at: datetime) -> None:
    """Create or change a pool so that its clock is stepped and its next cycle gets ``tick``."""
    ensure(tx, name, at=at)
    tx.connection.execute(
        sa.update(pools).where(pools.c.name == name).values(clock=ClockKind.STEPPED, next_tick=tick)
    )


def get(tx: Transaction, name: str) -> Pool:
    """Return one pool.

    Raises:
        PoolNotFound: there is none of that name.
    """
    row = tx.connection.execute(_named(), {"its_name": name}).first()
    if row is None:
        raise PoolNotFound(f"there is no pool {name!r}")
    return _pool(row)


@cache
def _named() -> sa.Select[Any]:
    return sa.select(*_columns).where(pools.c.name == sa.bindparam("its_name"))


def every(tx: Transaction) -> list[Pool]:
    """Return all pools, by name."""
    return [_pool(row) for row in tx.connection.execute(sa.select(*_columns).order_by(pools.c.name)).all()]


@remembered(pools, chips)
def with_chips(tx: Transaction, pool: str | None = None) -> list[Pool]:
    """Return the pools that have chips, by name: those a cycle is run for. With ``pool``, that one at most."""
    query = _with_chips(all_of_them=pool is None)
    return [_pool(row) for row in tx.connection.execute(query, {} if pool is None else {"name_of": pool})]


@cache
def _with_chips(*, all_of_them: bool) -> sa.Select[Any]:
    query = sa.select(*_columns).where(sa.exists().where(chips.c.pool == pools.c.name)).order_by(pools.c.name)
    return query if all_of_them else query.where(pools.c.name == sa.bindparam("name_of"))


def move_clock(tx: Transaction, name: str, next_tick: datetime) -> None:
    """Set where a stepped clock stands."""
    tx.connection.execute(sa.update(pools).where(pools.c.name == name).values(next_tick=next_tick))
