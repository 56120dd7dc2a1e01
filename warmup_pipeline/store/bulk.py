"""Writing many rows in few statements.

Holds: :func:`insert_rows`, :func:`update_rows`, :func:`upsert_rows`. One statement carries up to
``ROWS_PER_STATEMENT`` rows, whatever the database: a query per chip is a bug here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction

Row = Mapping[str, Any]


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        yield rows[start : start + ROWS_PER_STATEMENT]


def insert_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys."""
    for chunk in _chunks(rows):
        tx.connection.execute(sa.insert(table).values([dict(row) for row in chunk]))


def insert_new_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows; one whose primary key or unique key exists already is left as it is."""
    for chunk in _chunks(rows):
        statement = _insert(tx, table).values([dict(row) for row in chunk])
        tx.connection.execute(statement.on_conflict_do_nothing())


def _insert(tx: Transaction, table: sa.Table) -> Any:
    dialect = tx.connection.dialect.name
    return (sqlite.insert if dialect == "sqlite" else postgresql.insert)(table)


def upsert_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows, or replace what stands under the same primary key."""
    keys = [column.name for column in table.primary_key]
    for chunk in _chunks(rows):
        statement = _insert(tx, table).values([dict(row) for row in chunk])
        changed = {name: statement.excluded[name] for name in chunk[0] if name not in keys}
        tx.connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


def update_rows(
    tx: Transaction,
    table: sa.Table,
    rows: Sequence[Row],
    *,
    key: str = "id",
    where: sa.ColumnElement[bool] | None = None,
) -> None:
    """Set columns of many rows, each to its own values.

    Args:
        tx: the transaction.
        table: the table.
        rows: all with the same keys: ``key`` and the columns to set.
        key: the column that finds the row.
        where: a further condition on the table's row; one that does not meet it is left alone.
    """
    for chunk in _chunks(rows):
        names = list(chunk[0])
        # A bare NULL in VALUES has no type on PostgreSQL, so every value is bound with its column's type.
        new = (
            sa.values(*(sa.column(name, table.c[name].type) for name in names), name="new")
            .data(
                [
                    tuple(sa.bindparam(None, row[name], type_=table.c[name].type) for name in names)
                    for row in chunk
                ]
            )
            .cte("new")
        )
        statement = (
            sa.update(table)
            .values({name: new.c[name] for name in names if name != key})
            .where(table.c[key] == new.c[key])
        )
        if where is not None:
            statement = statement.where(where)
        tx.connection.execute(statement)
