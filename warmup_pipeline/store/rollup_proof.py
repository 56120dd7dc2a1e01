"""Whether a roll-up says what the log says, and putting it right where it does not.

Holds: :func:`wrong_days` and :func:`wrong_totals`, which compare; :func:`verified`, which keeps that the whole
was compared; :func:`roll_up_anew`. Do not add: what has a look when (``warmup.checks``).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.rollup_sums import SUMS, of_chips, of_days
from warmup_pipeline.store.rollup_touches import Stage, keep_writers_waiting
from warmup_pipeline.store.rollups import is_rolled_up
from warmup_pipeline.store.schema import (
    chip_message_days,
    chip_message_totals,
    conversation_touches,
    message_rollups,
    messages,
)

_NOTHING: Final = (0,) * len(SUMS)


def verified_on(tx: Transaction, pool: str) -> date | None:
    """Return the last local day on which the roll-up was found equal to the whole log."""
    query = sa.select(message_rollups.c.verified_on).where(message_rollups.c.pool == pool)
    found: date | None = tx.connection.execute(query).scalar()
    return found


def verified(tx: Transaction, pool: str, day: date) -> None:
    """Note that the roll-up was found equal to the whole log."""
    tx.connection.execute(
        sa.update(message_rollups).where(message_rollups.c.pool == pool).values(verified_on=day)
    )


def wrong_days(tx: Transaction, pool: str) -> set[str]:
    """Return the chips of which a day is not what the log says, of the days that were rolled up last."""
    asked = {"in_pool": pool}
    kept, fresh = _kept_and_fresh()
    stored = {tuple(row) for row in tx.connection.execute(kept, asked).all()}
    found = {tuple(row) for row in tx.connection.execute(fresh, asked).all()}
    return {row[0] for row in stored ^ found if row[2:] != _NOTHING}


@cache
def _kept_and_fresh() -> tuple[sa.Select[Any], sa.Select[Any]]:
    touches, days = conversation_touches, chip_message_days

    def days_of(stage: Stage) -> list[sa.Select[Any]]:
        at_stage = touches.c.stage == sa.literal_column(f"'{stage}'")
        return [
            sa.select(end.label("chip_id"), messages.c.sent_day.label("day"))
            .select_from(touches.join(messages, messages.c.conversation_id == touches.c.conversation_id))
            .where(touches.c.pool == sa.bindparam("in_pool"), at_stage)
            for end in (messages.c.sender_chip_id, messages.c.recipient_chip_id)
        ]

    rolled = sa.union(*days_of(Stage.IN)).subquery("rolled")
    # A day of which something is out of the roll-up by now is the next cycle's.
    waiting = sa.union_all(*days_of(Stage.OUT)).subquery("waiting")
    touched = sa.except_(
        sa.select(rolled.c.chip_id, rolled.c.day), sa.select(waiting.c.chip_id, waiting.c.day)
    ).cte("touched")
    kept = sa.select(days.c.chip_id, days.c.day, *(days.c[name] for name in SUMS)).select_from(
        touched.join(days, sa.and_(days.c.chip_id == touched.c.chip_id, days.c.day == touched.c.day))
    )
    fresh = of_days(touched).subquery("fresh")
    return kept, sa.select(fresh.c.chip_id, fresh.c.day, *(fresh.c[name] for name in SUMS))


def wrong_totals(tx: Transaction, pool: str) -> set[str]:
    """Return the chips whose totals are not the sums of their days."""
    days, totals = chip_message_days, chip_message_totals
    summed = (
        sa.select(days.c.chip_id, *(sa.func.sum(days.c[name]) for name in SUMS))
        .where(days.c.pool == pool)
        .group_by(days.c.chip_id)
    )
    kept = sa.select(totals.c.chip_id, *(totals.c[name] for name in SUMS)).where(totals.c.pool == pool)
    right = {(row[0], *map(int, row[1:])) for row in tx.connection.execute(summed).all()}
    return {
        row[0]
        for row in right ^ {tuple(row) for row in tx.connection.execute(kept).all()}
        if row[1:] != _NOTHING
    }


_CHIPS_AT_ONCE: Final = 5_000


def roll_up_anew(tx: Transaction, pool: str, chip_ids: Collection[str]) -> None:
    """Sum every day of some chips again from the log: theirs is not what the log says.

    The caller holds the pool.
    """
    if not is_rolled_up(tx, pool):
        return
    keep_writers_waiting(tx)
    every = sorted(chip_ids)
    for start in range(0, len(every), _CHIPS_AT_ONCE):
        asked = {"in_pool": pool, "chosen": every[start : start + _CHIPS_AT_ONCE]}
        for statement in _anew():
            tx.connection.execute(statement, asked)


@cache
def _anew() -> tuple[sa.Executable, ...]:
    """Return what replaces the days of chips, and their totals, by what the log says of what is not out."""
    days, totals, touches = chip_message_days, chip_message_totals, conversation_touches
    pool: sa.BindParameter[str] = sa.bindparam("in_pool", type_=days.c.pool.type)
    chosen: sa.BindParameter[Any] = sa.bindparam("chosen", expanding=True)
    is_in = sa.and_(
        messages.c.pool == pool,
        ~sa.exists().where(
            touches.c.conversation_id == messages.c.conversation_id,
            touches.c.stage != sa.literal_column(f"'{Stage.IN}'"),
        ),
    )
    fresh = of_chips(chosen, is_in).subquery("fresh")
    summed = (
        sa.select(days.c.chip_id, days.c.pool, *(sa.func.sum(days.c[name]) for name in SUMS))
        .where(days.c.pool == pool, days.c.chip_id.in_(chosen))
        .group_by(days.c.chip_id, days.c.pool)
    )
    return (
        sa.delete(days).where(days.c.pool == pool, days.c.chip_id.in_(chosen)),
        sa.delete(totals).where(totals.c.pool == pool, totals.c.chip_id.in_(chosen)),
        sa.insert(days).from_select(["chip_id", "day", "pool", *SUMS], sa.select(*fresh.c)),
        sa.insert(totals).from_select(["chip_id", "pool", *SUMS], summed),
    )
