"""How many rows a table has."""

from __future__ import annotations

import sqlalchemy as sa

from warmup_pipeline.store.engine import Transaction


def count(tx: Transaction, table: sa.Table, *, cycle_id: str | None = None) -> int:
    """Return how many rows a table has, or how many of them a cycle wrote."""
    query = sa.select(sa.func.count()).select_from(table)
    if cycle_id is not None:
        query = query.where(table.c.cycle_id == cycle_id)
    return int(tx.connection.execute(query).scalar_one())
