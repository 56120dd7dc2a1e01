"""Connections and transactions on SQLite and PostgreSQL.

Holds: :class:`Store`, which every layer above is given, and :class:`Transaction`. Add here: what
concerns every statement. Do not add: queries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from warmup_pipeline.store.schema import pools

ROWS_PER_STATEMENT: Final = 500
"""Rows of one bulk statement: 30 columns of 500 rows stay under SQLite's 32,766 variables."""

_BUSY_TIMEOUT_S: Final = 30
_WRITES: Final = "warmup_writes"


class StoreUrlError(ValueError):
    """The database URL cannot be used; the text says what to do."""


class PoolNotFound(LookupError):
    """A pool is named that does not exist."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One open transaction. Functions of this package take it first."""

    connection: Connection

    def lock_pool(self, pool: str) -> None:
        """Hold the pool for the length of this transaction: no other step decides about it meanwhile.

        On PostgreSQL a row lock; on SQLite a writing transaction already excludes every other.

        Raises:
            PoolNotFound: there is no such pool.
        """
        found = self.connection.execute(
            sa.select(pools.c.name).where(pools.c.name == pool).with_for_update()
        ).first()
        if found is None:
            raise PoolNotFound(f"there is no pool {pool!r}")


def parse_url(url: str) -> URL:
    """Return the URL with the driver this project installs.

    Raises:
        StoreUrlError: not a SQLite or PostgreSQL URL.
    """
    advice = "use sqlite:////absolute/path/file.db or postgresql://user:password@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreUrlError(f"WARMUP_DATABASE_URL is no database URL; {advice}") from None
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return parsed.set(drivername="sqlite")
    raise StoreUrlError(f"WARMUP_DATABASE_URL names {backend!r}, which is not supported; {advice}")


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN handling is switched off: it begins late and never IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "foreign_keys = ON",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"busy_timeout = {_BUSY_TIMEOUT_S * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that is going to write takes the write lock at once: upgrading later fails with
    # "database is locked" when another writer came in between.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Store:
    """The pool's database.

    Args:
        url: SQLAlchemy URL of a SQLite file or a PostgreSQL database.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        options: dict[str, Any] = {"hide_parameters": True}
        if self.is_sqlite:
            if self.url.database and self.url.database != ":memory:":
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            else:
                options |= {"poolclass": sa.StaticPool}
            options |= {"connect_args": {"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}}
        else:
            options |= {"pool_pre_ping": True, "pool_size": 5}
        self.engine: Engine = sa.create_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction that may write; commit at the end, roll back on an exception."""
        with self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that only reads, on one consistent view."""
        with self.engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
