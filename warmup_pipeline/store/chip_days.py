"""How each chip stood at the end of each local day.

Holds: writing and reading ``chip_days``. Do not add: what is written (``warmup.chip_days``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import ChipStatus, Phase, TrustLevel
from warmup_pipeline.store.arrays import Ids, among
from warmup_pipeline.store.bulk import stamp, write_changed
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import chip_days, chip_derivations, chips, trust_scores, warming_day
from warmup_pipeline.store.scope import Kind, Scope, in_scope


@dataclass(frozen=True, slots=True)
class ChipDayRow:
    """One row: a chip at the end of a local day, or at the last tick so far of a running one.

    Attributes:
        chip_id: the chip.
        day: local calendar day.
        status: chip status.
        phase: warm-up phase.
        warming_day: local days since its age reference; ``None`` while it does not age.
        trust_score: 0-100; ``None`` before it was first scored.
        trust_level: the score's level.
        hour_limit: effective sends within 60 minutes, trust and brake included.
        day_limit: effective sends of the day, trust and brake included.
        braked: a bad signal brakes it and holds its phase.
    """

    chip_id: str
    day: date
    status: ChipStatus
    phase: Phase
    warming_day: int | None
    trust_score: int | None
    trust_level: TrustLevel | None
    hour_limit: int
    day_limit: int
    braked: bool


COLUMNS: Final = (
    "chip_id",
    "day",
    "pool",
    "as_of",
    "status",
    "phase",
    "warming_day",
    "trust_score",
    "trust_level",
    "hour_limit",
    "day_limit",
    "braked",
)
"""Columns of the table, in the order in which rows are made."""


def may_differ(tx: Transaction, scope: Scope, day: date, braked: Collection[str]) -> set[str]:
    """Return the chips of a scope of marked chips that may stand otherwise than their row of the day says.

    Those that the tick derives in any case are among them: under another policy, their limits are others.

    Args:
        tx: the transaction.
        scope: the scope.
        day: the local day.
        braked: the chips that are braked.
    """
    asked = scope.asked | {"on_day": day, "braked": sorted(braked)}
    return {str(row[0]) for row in tx.connection.execute(_may_differ(scope.kind), asked).all()}


@cache
def _may_differ(kind: Kind) -> sa.Select[Any]:
    own, row, trust, ages = chip_derivations.c, chip_days.c, trust_scores.c, warming_day.c
    braked: sa.BindParameter[Any] = sa.bindparam("braked", type_=Ids())
    of_day = sa.and_(row.chip_id == chips.c.id, row.day == sa.bindparam("on_day"))
    stands = (
        chips.join(chip_derivations, own.chip_id == chips.c.id)
        .outerjoin(trust_scores, trust.chip_id == chips.c.id)
        .outerjoin(warming_day, ages.chip_id == chips.c.id)
        .outerjoin(chip_days, of_day)
    )
    return (
        sa.select(chips.c.id)
        .select_from(stands)
        .where(
            in_scope(chip_derivations, kind),
            sa.or_(
                own.judged_at.is_(None),
                row.chip_id.is_(None),
                row.pool != chips.c.pool,
                row.status != chips.c.status,
                row.phase != chips.c.phase,
                row.warming_day.is_distinct_from(ages.warming_day),
                row.trust_score.is_distinct_from(trust.score),
                row.trust_level.is_distinct_from(trust.level),
                row.braked != among(chips.c.id, braked),
            ),
        )
    )


def store(
    tx: Transaction, scope: Scope, rows: Sequence[Mapping[str, Any]], *, as_of: datetime, day: date
) -> None:
    """Write rows of the chips in a scope and a day, each in place of what stood there for its chip.

    Those of the pool's other chips of that day are said to hold still.
    """
    if rows:
        of_day = sa.and_(scope.within(chip_days), chip_days.c.day == day)
        write_changed(tx, chip_days, rows, within=of_day, stamps={"as_of": as_of}, stamped=not scope.marked)
    if scope.marked:
        of_pool_day = sa.and_(chip_days.c.pool == scope.pool, chip_days.c.day == day)
        stamp(tx, chip_days, within=of_pool_day, stamps={"as_of": as_of})


def of_pool(tx: Transaction, pool: str, *, first: date | None = None) -> list[ChipDayRow]:
    """Return a pool's rows from a local day on (all for ``None``), by day and chip."""
    query = (
        sa.select(*(chip_days.c[name] for name in ChipDayRow.__dataclass_fields__))
        .where(chip_days.c.pool == pool)
        .order_by(chip_days.c.day, chip_days.c.chip_id)
    )
    if first is not None:
        query = query.where(chip_days.c.day >= first)
    return [
        ChipDayRow(
            **{
                **row,
                "status": ChipStatus(row["status"]),
                "phase": Phase(row["phase"]),
                "trust_level": None if row["trust_level"] is None else TrustLevel(row["trust_level"]),
            }
        )
        for row in tx.connection.execute(query).mappings()
    ]
