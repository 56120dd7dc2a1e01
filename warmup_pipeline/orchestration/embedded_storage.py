"""Dagster's own SQLite storage, with its database connections kept open.

Holds: :class:`EmbeddedStorage`, which ``dagster.yaml`` names. Tables, files and their places are those of
Dagster's ``DagsterSqliteStorage``: either opens what the other wrote. Dagster's opens an engine and a
connection for every event and compiles each statement anew, which made up a third of a cycle's run.
The methods it overrides are not public; a test compares the two event by event. With PostgreSQL as
Dagster's storage this module is not used. Do not add: tables, queries.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

_RUNS_KEPT: Final = 3
"""Runs whose event database stays open: those that are running, and those being looked at."""


def _sync_at_checkpoints(connection: sqlite3.Connection, _record: object) -> None:
    # With a write-ahead log a power cut then costs the last events of a history, and never the file. The pool's
    # own database waits for the disk at every commit.
    connection.execute("PRAGMA synchronous=NORMAL")


class _Kept:
    """Engines by address, the least recently used ones closed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._compiled: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def engine(self, url: str) -> Engine:
        """Return the engine of an address, a new one where its file has been removed since."""
        with self._lock:
            engine = self._engines.pop(url, None)
            if engine is not None and not Path(str(engine.url.database)).exists():
                engine.dispose()
                engine = None
            if engine is None:
                engine = sa.create_engine(
                    url,
                    connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
                    # One for all: the statements of every run's database are the same.
                    execution_options={"compiled_cache": self._compiled},
                )
                sa.event.listen(engine, "connect", _sync_at_checkpoints)
            self._engines[url] = engine
            while len(self._engines) > self._most:
                self._engines.popitem(last=False)[1].dispose()
            return engine

    def dispose(self) -> None:
        """Close them all."""
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


class _EventLog(SqliteEventLogStorage):
    """Events in one file per run and an index of them all."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._kept_runs = _Kept(_RUNS_KEPT)
        self._kept_index = _Kept(1)
        self._revision: str | None = None
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            kept = self._kept_index if shard == INDEX_SHARD_NAME else self._kept_runs
            known = shard in self._initialized_dbs and Path(self.path_for_shard(shard)).exists()
            engine = kept.engine(self.conn_string_for_shard(shard))
            if not known:
                self._prepare(engine, shard)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _prepare(self, engine: Engine, shard: str) -> None:
        # The index and the file of events without a run may be begun by several processes at once.
        if shard in (INDEX_SHARD_NAME, RUNLESS_RUN_ID) or Path(self.path_for_shard(shard)).exists():
            self._initdb(engine, for_index_shard=shard == INDEX_SHARD_NAME)
            return
        # A new run's file. Dagster's way reads its whole chain of migrations to learn the newest one's name;
        # the index has it.
        try:
            self._create(engine)
        except OperationalError:
            # Somebody looks at the run at this very moment and makes the same tables: Dagster's way waits for that.
            self._initdb(engine)

    def _create(self, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            SqlEventLogStorageMetadata.create_all(connection)
            connection.exec_driver_sql(
                "CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
            )
            connection.exec_driver_sql(
                "INSERT OR IGNORE INTO alembic_version (version_num) VALUES (?)", (self._newest_revision(),)
            )

    def _newest_revision(self) -> str:
        if self._revision is None:
            index = self._kept_index.engine(self.conn_string_for_shard(INDEX_SHARD_NAME))
            with index.begin() as connection:
                self._revision = str(
                    connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
                )
        return self._revision

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; one that it has, it keeps."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        """Close every connection."""
        super().dispose()
        self._kept_runs.dispose()
        self._kept_index.dispose()


class _KeptConnection:
    """One database whose engine is kept."""

    _conn_string: str

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._kept = _Kept(1)
        super().__init__(conn_string, inst_data)  # type: ignore[call-arg]

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a transaction."""
        with self._kept.engine(self._conn_string).begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close every connection."""
        self._kept.dispose()


class _Runs(_KeptConnection, SqliteRunStorage):
    """Runs and their tags."""


class _Schedules(_KeptConnection, SqliteScheduleStorage):
    """Sensors, schedules and their ticks."""


class EmbeddedStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage: the same files, fewer seconds.

    Args:
        base_dir: the folder of the files; a relative one counts from the working directory.
        inst_data: Dagster's note of where it was configured.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Dagster's own constructor would open its own three.
        self.base_dir = base_dir
        self._inst_data = inst_data
        self._run_storage = _Runs.from_local(str(Path(base_dir) / "history"))
        self._event_log_storage = _EventLog(str(Path(base_dir) / "history" / "runs"))
        self._schedule_storage = _Schedules.from_local(str(Path(base_dir) / "schedules"))
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Open it as ``dagster.yaml`` says."""
        return cls.from_local(inst_data=inst_data, base_dir=config_value["base_dir"])
