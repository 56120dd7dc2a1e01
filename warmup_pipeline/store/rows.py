"""How many rows a table has.

Holds: :func:`count`. A table that grows for ever is counted wholly once a local day, which
:func:`note_counted` keeps; in between, the rows of its last days are counted and added.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import pools, row_counts
from warmup_pipeline.store.types import UtcDateTime

LONG_TABLE: Final = 20_000
"""Rows from which on a table is not counted wholly each time."""

_DAY_OF: Final[Mapping[str, str]] = {
    "messages": "sent_day",
    "presend_validations": "day",
    "pairings": "at",
    "daily_summary": "day",
    "phase_forecast": "day",
}
"""Tables that grow for ever, and the column that says of which day a row is."""

_KEEPS_CHANGING: Final = timedelta(days=2)
"""Rows of a day may still come and go for so long."""


def count(tx: Transaction, table: sa.Table, *, cycle_id: str | None = None, today: date | None = None) -> int:
    """Return how many rows a table has, or how many of them a cycle wrote.

    Args:
        tx: the transaction.
        table: the table.
        cycle_id: count this cycle's rows only.
        today: the local day; without it, everything is counted.
    """
    query = sa.select(sa.func.count()).select_from(table)
    if cycle_id is not None:
        query = query.where(table.c.cycle_id == cycle_id)
    elif today is not None and table.name in _DAY_OF:
        known = _known(tx, table, today)
        if known is not None:
            return known + int(tx.connection.execute(query.where(_newer(table, today))).scalar_one())
    return int(tx.connection.execute(query).scalar_one())


def is_to_be_noted(tx: Transaction, table: sa.Table, rows: int, *, today: date) -> bool:
    """Whether a table of so many rows is long and has not been counted wholly today."""
    return table.name in _DAY_OF and rows >= LONG_TABLE and _known(tx, table, today) is None


def note_counted(tx: Transaction, table: sa.Table, rows: int, *, today: date) -> None:
    """Keep how many rows a long table has of the days that do not change any more."""
    newer = sa.select(sa.func.count()).select_from(table).where(_newer(table, today))
    older = rows - int(tx.connection.execute(newer).scalar_one())
    upsert_rows(
        tx,
        row_counts,
        [{"table_name": table.name, "until_day": today - _KEEPS_CHANGING, "rows": older}],
    )


def _known(tx: Transaction, table: sa.Table, today: date) -> int | None:
    query = sa.select(row_counts.c.rows).where(
        row_counts.c.table_name == table.name, row_counts.c.until_day == today - _KEEPS_CHANGING
    )
    found: int | None = tx.connection.execute(query).scalar()
    return found


def _newer(table: sa.Table, today: date) -> sa.ColumnElement[bool]:
    column = table.c[_DAY_OF[table.name]]
    last: Any = today - _KEEPS_CHANGING
    if isinstance(column.type, UtcDateTime):
        last = datetime.combine(last, time(0), tzinfo=UTC)
    newer: sa.ColumnElement[bool] = column > last
    if "pool" in table.c:
        # As everywhere: so that an index on (pool, day) answers for all pools.
        newer = sa.and_(table.c.pool.in_(sa.select(pools.c.name)), newer)
    return newer
