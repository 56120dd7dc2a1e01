"""A database that lives no longer than its process, for the time-lapse.

Holds: :func:`scratch_store` and :class:`ScratchStore`. Nothing waits for the disk, nothing that has not
changed is read again, what every cycle writes anew is written when it is read (``memory``), and statements
run as they were made ready once (``prepared``). Do not add: queries; anything a store that others may open could use.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import cast

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from warmup_pipeline.store import migrate
from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import KEPT, Store, Transaction, new_engine
from warmup_pipeline.store.memory import Memory
from warmup_pipeline.store.prepared import PreparedConnection


class ScratchStore(Store):
    """A SQLite file of one process: one connection is kept for one transaction after the other.

    A transaction that is opened while another is open gets a connection of its own, as in every store.

    Args:
        path: where the file is made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        # What listens to this one must hear of no other store's statements.
        self.engine = new_engine(self.url)
        self.memory: Memory = Memory(self.engine)
        self._free = threading.Lock()
        self._kept: PreparedConnection | None = None
        self._driver: sqlite3.Connection | None = None

        @event.listens_for(self.engine, "connect")
        def _carefree(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA wal_autocheckpoint = 10000")
            # A simulated month's memory is to stay as it is.
            connection.execute("PRAGMA cache_size = -8000")

    def write(self) -> AbstractContextManager[Transaction, bool | None]:
        """Open a transaction that may write, as :meth:`Store.write`."""
        return _Kept(self, "BEGIN IMMEDIATE") if self._is_free() else super().write()

    def read(self) -> AbstractContextManager[Transaction, bool | None]:
        """Open a transaction that only reads, as :meth:`Store.read`."""
        return _Kept(self, "BEGIN") if self._is_free() else super().read()

    def _is_free(self) -> bool:
        if self._free.acquire(blocking=False):
            return True
        if self.memory.is_holding:
            # It would see older rows than the transaction that is open.
            raise RuntimeError("a scratch store that holds rows back has one transaction at a time")
        return False

    def settle(self) -> None:
        """Write what is held back, for whoever opens the file."""
        if self.memory.is_holding:
            with self.write():
                self.memory.settle()

    def close(self) -> None:
        """Close every connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = self._driver = None
        super().close()

    def begin(self, statement: str) -> Transaction:
        """Begin a transaction on the kept connection."""
        if self._driver is None:
            connection = self.engine.connect().execution_options(**{KEPT: True})
            # As SQLAlchemy sees it, one transaction lasts as long as the store.
            connection.begin()
            self.memory.end()
            self._driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            kept = self._kept = PreparedConnection(connection, self._driver, self.memory)
            self._transaction = Transaction(cast("Connection", kept), self.memory)
            self.memory.write_held = lambda table, rows: upsert_rows(self._transaction, table, rows)
        self.memory.begin()
        self._driver.execute(statement)
        return self._transaction

    def end(self, *, keep: bool) -> None:
        """End the transaction on the kept connection, which is free then."""
        try:
            if self._driver is not None and self._driver.in_transaction:
                self._driver.execute("COMMIT" if keep else "ROLLBACK")
            if not keep:
                self.memory.undo()
        finally:
            self.memory.end()
            self._free.release()


class _Kept:
    """One transaction on a store's kept connection, which was free."""

    def __init__(self, store: ScratchStore, statement: str) -> None:
        self._store = store
        self._statement = statement

    def __enter__(self) -> Transaction:
        try:
            return self._store.begin(self._statement)
        except BaseException:
            self._store.end(keep=False)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.end(keep=error is None)
        if isinstance(error, DBAPIError):
            # Told as every store tells it.
            with self._store.troubles():
                raise error


def scratch_store(path: Path) -> Store:
    """Open a new scratch database, with the schema in place."""
    plain = Store(f"sqlite:///{path}")
    try:
        migrate.upgrade(plain)
    finally:
        plain.close()
    return ScratchStore(path)
