"""How each chip stood at the end of each local day.

Holds: writing and reading ``chip_days``. Do not add: what is written (``warmup.chip_days``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import ChipStatus, Phase, TrustLevel
from warmup_pipeline.store.bulk import stamp, write_changed
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import chip_days
from warmup_pipeline.store.scope import Scope


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
