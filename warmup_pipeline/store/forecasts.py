"""Forecasts of when chips enter their next phases: one per chip and local day, kept.

Holds: writing and reading ``phase_forecast``, and each forecast beside what became of it. Do not add:
how a date is found (``domain.forecast``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import Phase
from warmup_pipeline.store.bulk import insert_new_rows
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.chips import those as chips_by
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import chips, phase_forecast, phase_transitions


@dataclass(frozen=True, slots=True)
class Followed:
    """A forecast of one day, and what was known on the next.

    Attributes:
        earliest_date: what was forecast.
        limited_by: what limited it.
        entered_on: the local day on which the chip entered that phase; ``None`` if it has not.
        forecast_again: whether the next day has a forecast of the same phase.
        earliest_date_again: what that says.
        limited_by_again: what limits it.
    """

    pool: str
    chip_id: str
    earliest_date: date | None
    limited_by: str | None
    entered_on: date | None
    forecast_again: bool
    earliest_date_again: date | None
    limited_by_again: str | None


def add(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep forecasts; a chip that has one for the day keeps that one."""
    insert_new_rows(tx, phase_forecast, rows)


@remembered(phase_forecast)
def how_many(tx: Transaction, pool: str, day: date) -> int:
    """Return how many chips of a pool have a forecast of a local day."""
    return int(tx.connection.execute(_how_many(), {"in_pool": pool, "on_day": day}).scalar_one())


@cache
def _how_many() -> sa.Select[Any]:
    return sa.select(sa.func.count()).where(
        phase_forecast.c.pool == sa.bindparam("in_pool"), phase_forecast.c.day == sa.bindparam("on_day")
    )


@remembered(phase_forecast, chips)
def chips_without_one(tx: Transaction, pool: str, day: date) -> list[Chip]:
    """Return the chips of a pool that have no forecast of a local day, and have a phase to move on to, by id."""
    return chips_by(tx, _without_one(), {"in_pool": pool, "on_day": day})


@cache
def _without_one() -> sa.ColumnElement[bool]:
    has_one = sa.exists().where(
        phase_forecast.c.chip_id == chips.c.id, phase_forecast.c.day == sa.bindparam("on_day")
    )
    last = next(phase for phase in Phase if phase.next is None)
    return sa.and_(chips.c.pool == sa.bindparam("in_pool"), chips.c.phase != last, ~has_one)


def followed(tx: Transaction, pools: Sequence[str], *, made_on: date, known_on: date) -> list[Followed]:
    """Return pools' forecasts of one local day, with what is known on another, by chip.

    Args:
        tx: the transaction.
        pools: the pools.
        made_on: the day of the forecasts.
        known_on: a later day.
    """
    again = phase_forecast.alias("again")
    entered = (
        sa.select(sa.func.min(phase_transitions.c.day))
        .where(
            phase_transitions.c.chip_id == phase_forecast.c.chip_id,
            phase_transitions.c.to_phase == phase_forecast.c.next_phase,
            phase_transitions.c.at >= phase_forecast.c.computed_at,
        )
        .scalar_subquery()
    )
    query = (
        sa.select(
            phase_forecast.c.pool,
            phase_forecast.c.chip_id,
            phase_forecast.c.earliest_date,
            phase_forecast.c.limited_by,
            sa.type_coerce(entered, sa.Date),
            again.c.chip_id.is_not(None),
            again.c.earliest_date,
            again.c.limited_by,
        )
        .outerjoin(
            again,
            sa.and_(
                again.c.chip_id == phase_forecast.c.chip_id,
                again.c.day == known_on,
                again.c.next_phase == phase_forecast.c.next_phase,
            ),
        )
        .where(phase_forecast.c.pool.in_(pools), phase_forecast.c.day == made_on)
        .order_by(phase_forecast.c.chip_id)
    )
    return [Followed(*row) for row in tx.connection.execute(query).all()]
