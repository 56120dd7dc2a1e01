"""Writing many rows in few statements.

Holds: :func:`insert_rows`, :func:`update_rows`, :func:`upsert_rows`. One statement carries up to
``ROWS_PER_STATEMENT`` rows, whatever the database: a query per chip is a bug here.

PostgreSQL gets the rows of a statement as one list of values, which is one round trip. SQLite is in
this process, where a round trip costs nothing and making the text of a long list costs more than the
work itself: it gets one short statement, prepared once, with many sets of parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction

Row = Mapping[str, Any]


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        yield rows[start : start + ROWS_PER_STATEMENT]


def _is_sqlite(tx: Transaction) -> bool:
    return tx.connection.dialect.name == "sqlite"


def insert_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys."""
    for chunk in _chunks(rows):
        if _is_sqlite(tx):
            tx.connection.execute(_sqlite_insert(table), chunk)
        else:
            tx.connection.execute(sa.insert(table).values([dict(row) for row in chunk]))


def insert_new_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows; one whose primary key or unique key exists already is left as it is."""
    for chunk in _chunks(rows):
        if _is_sqlite(tx):
            tx.connection.execute(_sqlite_insert_new(table), chunk)
        else:
            statement = postgresql.insert(table).values([dict(row) for row in chunk])
            tx.connection.execute(statement.on_conflict_do_nothing())


@lru_cache(maxsize=128)
def _sqlite_insert(table: sa.Table) -> sqlite.Insert:
    return sqlite.insert(table)


@lru_cache(maxsize=128)
def _sqlite_insert_new(table: sa.Table) -> sqlite.Insert:
    return sqlite.insert(table).on_conflict_do_nothing()


@lru_cache(maxsize=128)
def _sqlite_upsert(table: sa.Table, names: tuple[str, ...]) -> sqlite.Insert:
    keys = [column.name for column in table.primary_key]
    statement = sqlite.insert(table)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def upsert_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows, or replace what stands under the same primary key."""
    keys = [column.name for column in table.primary_key]
    for chunk in _chunks(rows):
        if _is_sqlite(tx):
            tx.connection.execute(_sqlite_upsert(table, tuple(chunk[0])), chunk)
            continue
        statement = postgresql.insert(table).values([dict(row) for row in chunk])
        changed = {name: statement.excluded[name] for name in chunk[0] if name not in keys}
        tx.connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


@dataclass(frozen=True, slots=True, eq=False)
class _Condition:
    """A condition that is the same as another only if it is the same object: ``==`` would make SQL."""

    of: sa.ColumnElement[bool] | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Condition) and self.of is other.of

    def __hash__(self) -> int:
        return id(self.of)


@lru_cache(maxsize=256)
def _sqlite_update(table: sa.Table, names: tuple[str, ...], key: str, where: _Condition) -> sa.Update:
    statement = (
        sa.update(table)
        .where(table.c[key] == sa.bindparam(f"new_{key}", type_=table.c[key].type))
        .values({n: sa.bindparam(f"new_{n}", type_=table.c[n].type) for n in names if n != key})
    )
    return statement if where.of is None else statement.where(where.of)


def update_rows(
    tx: Transaction,
    table: sa.Table,
    rows: Sequence[Row],
    *,
    key: str = "id",
    where: sa.ColumnElement[bool] | None = None,
) -> int:
    """Set columns of many rows, each to its own values; returns how many rows there were to change.

    Args:
        tx: the transaction.
        table: the table.
        rows: all with the same keys: ``key`` and the columns to set.
        key: the column that finds the row.
        where: a further condition on the table's row, without IN; a row that does not meet it is left alone.
    """
    changed = 0
    for chunk in _chunks(rows):
        names = list(chunk[0])
        if _is_sqlite(tx):
            prepared = _sqlite_update(table, tuple(names), key, _Condition(where))
            done = tx.connection.execute(prepared, [{f"new_{n}": row[n] for n in names} for row in chunk])
            changed += int(done.rowcount)
            continue
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
        changed += int(tx.connection.execute(statement).rowcount)
    return changed
