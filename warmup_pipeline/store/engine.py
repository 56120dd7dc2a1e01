"""Connections and transactions on SQLite and PostgreSQL.

Holds: :class:`Store`, which every layer above is given, and :class:`Transaction`. Add here: what
concerns every statement. Do not add: queries; what a database in trouble means (``trouble``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from warmup_pipeline.store import trouble
from warmup_pipeline.store.schema import pools

if TYPE_CHECKING:
    from warmup_pipeline.store.memory import Memory

ROWS_PER_STATEMENT: Final = 500
"""Rows of one bulk statement: 30 columns of 500 rows stay under SQLite's 32,766 variables."""

_BUSY_TIMEOUT_S: Final = 30
_CONNECT_TIMEOUT_S: Final = 10
_STATEMENTS_KEPT: Final = 1000
_PAGES_KEPT_KB: Final = 64_000
"""Of a SQLite file, by each connection, where it is so large: by itself it keeps 2 MB. A long log's indexes are read at
thousands of places in each cycle."""
_POSTGRESQL_SETTINGS: Final = {
    # Instants are given in it, whatever the server's own zone is.
    "timezone": "UTC",
    # Compiling a question takes longer than any of ours does: its costs are counted as if each chip were looked up
    # in a cold database.
    "jit": "off",
    "lock_timeout": "30s",
    "statement_timeout": "120s",
    # A process that hangs in the middle of a transaction must not hold the pool beyond its cycle.
    "idle_in_transaction_session_timeout": "300s",
}
_WRITES: Final = "warmup_writes"
KEPT: Final = "warmup_kept"
"""Execution option of a connection whose transactions somebody else begins and ends (``scratch``)."""


class StoreUrlError(ValueError):
    """The database URL cannot be used; the text says what to do."""


class TakenByAnother(RuntimeError):
    """Another process acts where this one was about to: nothing of the transaction is kept."""


class PoolNotFound(LookupError):
    """A pool is named that does not exist."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One open transaction. Functions of this package take it first.

    Attributes:
        connection: what statements run on.
        memory: what was read of a database that belongs to this process alone, else ``None``.
    """

    connection: Connection
    memory: Memory | None = None

    def lock_pool(self, pool: str) -> None:
        """Hold the pool for the length of this transaction: no other step decides about it meanwhile.

        On PostgreSQL a row lock that lets other tables go on naming the pool; on SQLite a writing
        transaction already excludes every other.

        Raises:
            PoolNotFound: there is no such pool.
        """
        if self.memory is not None:
            # Nobody else is there: only whether the pool exists is asked, and that once.
            found = self.memory.recall(
                ("lock_pool", pool),
                (pools.name,),
                lambda: self.connection.execute(_lock(), {"locked": pool}).first(),
            )
        else:
            found = self.connection.execute(_lock(), {"locked": pool}).first()
        if found is None:
            raise PoolNotFound(f"there is no pool {pool!r}")


@cache
def _lock() -> sa.Select[Any]:
    return (
        sa.select(pools.c.name).where(pools.c.name == sa.bindparam("locked")).with_for_update(key_share=True)
    )


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


def _make_folder_of(path: str) -> None:
    if path.startswith("file:"):
        # A URI (`file:/folder/warmup.db?mode=ro&uri=true`): whoever writes one has made the folder.
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUrlError(
            f"the folder of the database {path} cannot be made ({error.strerror}); check WARMUP_DATABASE_URL"
        ) from None


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN handling is switched off: it begins late and never IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "foreign_keys = ON",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"busy_timeout = {_BUSY_TIMEOUT_S * 1000}",
        f"cache_size = -{_PAGES_KEPT_KB}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_postgresql(connection: Any, _: ConnectionPoolEntry) -> None:
    with connection.cursor() as cursor:
        for name, value in _POSTGRESQL_SETTINGS.items():
            cursor.execute(f"SET {name} = '{value}'")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that is going to write takes the write lock at once: upgrading later fails with
    # "database is locked" when another writer came in between.
    options = connection.get_execution_options()
    if not options.get(KEPT, False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES, False) else "BEGIN")


def new_engine(url: URL) -> Engine:
    """Return an engine of its own for a database, set up as this project uses one."""
    options: dict[str, Any] = {"hide_parameters": True}
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        if url.database in (None, "", ":memory:"):
            options |= {"poolclass": sa.StaticPool}
        else:
            # A connection forgets the pages it keeps whenever another one has written.
            options |= {"pool_use_lifo": True}
        options |= {"connect_args": {"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}}
        # A cycle has more statements than the driver keeps by itself (128): each would be parsed each time.
        options["connect_args"]["cached_statements"] = _STATEMENTS_KEPT
    else:
        options |= {"pool_pre_ping": True, "pool_size": 5}
        if "connect_timeout" not in url.query:
            options |= {"connect_args": {"connect_timeout": _CONNECT_TIMEOUT_S}}
    engine = sa.create_engine(url, **options)
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
    return engine


_kept_engine = lru_cache(maxsize=8)(new_engine)
"""A process opens the same database again and again, run after run: its engine keeps the compiled statements,
some hundred and fifty a cycle. A closed store's engine holds no connection."""


class Store:
    """The pool's database.

    Args:
        url: SQLAlchemy URL of a SQLite file or a PostgreSQL database.

    Raises:
        StoreUrlError: not such a URL, or the file's folder cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        in_memory = self.is_sqlite and self.url.database in (None, "", ":memory:")
        if self.is_sqlite and not in_memory:
            _make_folder_of(str(self.url.database))
        self.engine: Engine = new_engine(self.url) if in_memory else _kept_engine(self.url)
        self.memory: Memory | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def shown_url(self) -> str:
        """The URL without its password, and without options, which may hold one as well."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    def write(self) -> AbstractContextManager[Transaction, bool | None]:
        """Open a transaction that may write; commit at the end, roll back on an exception.

        Raises:
            StoreError: the database is in trouble; nothing of the transaction is kept.
        """
        return self._write()

    def read(self) -> AbstractContextManager[Transaction, bool | None]:
        """Open a transaction that only reads, on one consistent view.

        Raises:
            StoreError: the database is in trouble.
        """
        return self._read()

    @contextmanager
    def _write(self) -> Iterator[Transaction]:
        with (
            self.troubles(),
            self.engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            yield Transaction(connection, self.memory)

    @contextmanager
    def _read(self) -> Iterator[Transaction]:
        with self.troubles(), self.engine.connect() as connection:
            if not self.is_sqlite:
                # SQLite's readers have one view by nature; here each statement would see what came in between.
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield Transaction(connection, self.memory)

    @contextmanager
    def troubles(self) -> Iterator[None]:
        """Turn an error that means trouble with the database into one line that says what to do.

        Raises:
            StoreError: caused by the driver's own error.
        """
        try:
            yield
        except DBAPIError as error:
            trouble_told = trouble.told(error, self.shown_url)
            if trouble_told is None:
                raise
            raise trouble_told from error

    def settle(self) -> None:
        """See to it that everything stands in the database: it always does, but in a scratch store."""

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
