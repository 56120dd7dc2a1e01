"""Connection state of each observed chip.

Holds: loading and storing rows of ``chip_connections``, and how they came to be (``connection_history``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import ConnectionState
from warmup_pipeline.store.bulk import insert_rows, replace_rows, update_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered, tell
from warmup_pipeline.store.schema import chip_connections, connection_history


@dataclass(frozen=True, slots=True)
class Connection:
    """One row of ``chip_connections``: see the column comments there."""

    chip_id: str
    pool: str
    state: ConnectionState
    since: datetime
    observed_at: datetime | None
    asked_at: datetime
    detail: str
    needs_person: str | None
    recovery_attempts: int
    last_recovery_at: datetime | None
    last_recovery_action: str | None
    last_recovery_detail: str | None
    next_recovery_at: datetime | None
    recovered_at: datetime | None
    last_error_at: datetime | None
    gateway_error: str | None
    gateway_error_cycle_id: str | None


_NAMES: Final = tuple(Connection.__dataclass_fields__)
_values: Final = attrgetter(*_NAMES)
_columns = tuple(chip_connections.c[name] for name in _NAMES)


@remembered(chip_connections)
def of_pool(tx: Transaction, pool: str | None = None) -> dict[str, Connection]:
    """Return the connection of each observed chip of a pool (of every pool for ``None``)."""
    rows = (
        tx.connection.execute(_every())
        if pool is None
        else tx.connection.execute(_in_pool(), {"in_pool": pool})
    )
    found: dict[str, Connection] = {}
    for row in rows:
        values = list(row)
        values[_STATE] = ConnectionState(values[_STATE])
        found[row[0]] = Connection(*values)
    return found


_STATE = [column.name for column in _columns].index("state")


@cache
def _every() -> sa.Select[Any]:
    return sa.select(*_columns).order_by(chip_connections.c.chip_id)


@cache
def _in_pool() -> sa.Select[Any]:
    return _every().where(chip_connections.c.pool == sa.bindparam("in_pool"))


def store(tx: Transaction, rows: Sequence[Connection]) -> None:
    """Insert or replace connections."""
    known = {pool: of_pool(tx, pool) for pool in {row.pool for row in rows}} if tx.memory is not None else {}
    replace_rows(tx, chip_connections, [dict(zip(_NAMES, _values(row), strict=True)) for row in rows])
    for pool, before in known.items():
        now = before | {row.chip_id: row for row in rows if row.pool == pool}
        tell(tx, of_pool, {chip_id: now[chip_id] for chip_id in sorted(now)}, pool)


def change(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of many connections: every row has ``chip_id`` and the same further columns."""
    update_rows(tx, chip_connections, rows, key="chip_id")


@dataclass(frozen=True, slots=True)
class Step:
    """One row of ``connection_history``: see the column comments there."""

    chip_id: str
    pool: str
    at: datetime
    source: str
    state: ConnectionState
    detail: str


def note(tx: Transaction, steps: Sequence[Step]) -> None:
    """Append to the history of connections."""
    insert_rows(tx, connection_history, [asdict(step) for step in steps])


def history_of(tx: Transaction, chip_id: str, *, limit: int) -> list[Step]:
    """Return the last steps of a chip's connection, newest first."""
    history = connection_history
    query = (
        sa.select(*(history.c[name] for name in Step.__dataclass_fields__))
        .where(history.c.chip_id == chip_id)
        .order_by(history.c.at.desc(), history.c.id.desc())
        .limit(limit)
    )
    return [
        Step(row[0], row[1], row[2], row[3], ConnectionState(row[4]), row[5])
        for row in tx.connection.execute(query).all()
    ]
