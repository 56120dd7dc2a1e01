"""Dagster's own SQLite storage, with its database connections kept open.

Holds: :class:`EmbeddedStorage`, which ``dagster.yaml`` names. Tables, files and their places are those of
Dagster's ``DagsterSqliteStorage``: either opens what the other wrote. Dagster's opens an engine and a
connection for every event and compiles each statement anew, which made up a third of a cycle's run; and it
stores what is said of an asset or a check in three transactions, here in two. The methods it overrides are not
public; a test compares the two event by event and row by row. With PostgreSQL as Dagster's storage this module
is not used. Do not add: tables, queries.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, cast

import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetKeyTable,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

from warmup_pipeline.orchestration.fewer_questions import FewerQuestions

_RUNS_KEPT: Final = 3
"""Runs whose event database stays open: those that are running, and those being looked at."""


_INDEXED: Final = ASSET_EVENTS | ASSET_CHECK_EVENTS | EVENT_TYPE_TO_PIPELINE_RUN_STATUS.keys()
"""Kinds of events that Dagster keeps in the index as well."""

_STORE: Final = SqlEventLogStorageTable.insert()
_MADE_AGAIN: Final = AssetKeyTable.update().where(AssetKeyTable.c.asset_key == sa.bindparam("known"))
_WILL_BE_JUDGED: Final = AssetCheckExecutionsTable.insert()
_IS_JUDGED: Final = AssetCheckExecutionsTable.update().where(
    AssetCheckExecutionsTable.c.asset_key == sa.bindparam("of_asset"),
    AssetCheckExecutionsTable.c.check_name == sa.bindparam("of_check"),
    AssetCheckExecutionsTable.c.run_id == sa.bindparam("of_run"),
    AssetCheckExecutionsTable.c.partition.is_not_distinct_from(sa.bindparam("of_partition")),
)
"""Dagster's statements, made once: making one, and finding out that it is compiled, takes longer than the database."""

_BATCH_SIZE: Final = "DAGSTER_EVENT_BATCH_SIZE"


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


class _EventLog(FewerQuestions, SqliteEventLogStorage):
    """Events in one file per run and an index of them all."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._kept_runs = _Kept(_RUNS_KEPT)
        self._kept_index = _Kept(1)
        self._revision: str | None = None
        self._of_thread = threading.local()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        opened: Mapping[str, Connection] = getattr(self._of_thread, "opened", {})
        if shard in opened:
            yield opened[shard]
        elif opened:
            with self._begin(shard) as connection:
                yield connection
        else:
            with self._db_lock, self._begin(shard) as connection:
                yield connection

    @contextmanager
    def _begin(self, shard: str) -> Iterator[Connection]:
        kept = self._kept_index if shard == INDEX_SHARD_NAME else self._kept_runs
        known = shard in self._initialized_dbs and Path(self.path_for_shard(shard)).exists()
        engine = kept.engine(self.conn_string_for_shard(shard))
        if not known:
            self._prepare(engine, shard)
            self._initialized_dbs.add(shard)
        with engine.begin() as connection:
            yield connection

    @contextmanager
    def _together(self, run_id: str) -> Iterator[None]:
        """Let what this thread stores of a run be one transaction of its file, and one of the index.

        The run's is ended first, as in Dagster's way: what is in the index is in the run's log.
        """
        with self._db_lock, self._begin(INDEX_SHARD_NAME) as index, self._begin(run_id) as of_run:
            self._of_thread.opened = {INDEX_SHARD_NAME: index, run_id: of_run}
            try:
                yield
            finally:
                self._of_thread.opened = {}

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, in the index too where it is asked for across runs."""
        if event.is_dagster_event and event.dagster_event_type in _INDEXED:
            self._store_indexed([event])
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events; those of one run that are indexed, all or none."""
        one_run = len({event.run_id for event in events}) == 1
        if one_run and all(e.is_dagster_event and e.dagster_event_type in _INDEXED for e in events):
            self._store_indexed(events)
        else:
            super().store_event_batch(events)

    def _store_indexed(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run as Dagster's own ``store_event`` does each, in one go."""
        run_id = events[0].run_id
        with self._together(run_id), self.run_connection(run_id) as of_run, self.index_connection() as index:
            for event in events:
                row = self._event_to_row(event)
                of_run.execute(_STORE, row)
                event_id = cast("Any", index.execute(_STORE, row).inserted_primary_key)[0]
                if event.dagster_event_type in ASSET_EVENTS:
                    self._store_asset_event_tags(index, [event], [event_id])
                    self._store_asset_event(index, event, event_id)
                if event.dagster_event_type in ASSET_CHECK_EVENTS and not self._store_check(
                    index, event, event_id, row
                ):
                    self.store_asset_check_event(event, event_id)

    def _store_check(
        self, index: Connection, event: EventLogEntry, event_id: int, row: Mapping[str, Any]
    ) -> bool:
        """Store what is said of a check; ``False`` for what only Dagster's own ``store_asset_check_event`` can."""
        said = event.dagster_event.event_specific_data if event.dagster_event is not None else None
        stored = {
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "evaluation_event_storage_id": event_id,
        }
        if isinstance(said, AssetCheckEvaluationPlanned) and said.partitions_subset is None:
            stored |= {
                "asset_key": said.asset_key.to_string(),
                "check_name": said.check_name,
                "partition": None,
                "run_id": event.run_id,
                "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            }
            index.execute(_WILL_BE_JUDGED, stored)
            return True
        if isinstance(said, AssetCheckEvaluation) and event.run_id:
            status = AssetCheckExecutionRecordStatus
            judged = said.target_materialization_data
            stored |= {
                "of_asset": said.asset_key.to_string(),
                "of_check": said.check_name,
                "of_run": event.run_id,
                "of_partition": said.partition,
                "execution_status": (status.SUCCEEDED if said.passed else status.FAILED).value,
                "materialization_event_storage_id": judged.storage_id if judged else None,
            }
            return bool(index.execute(_IS_JUDGED, stored).rowcount == 1)
        return False

    def _store_asset_event(self, conn: Connection, event: EventLogEntry, event_id: int) -> None:
        # Dagster's way tries to insert the asset first, and to catch that it is there already: it nearly always is.
        key = event.dagster_event.asset_key if event.dagster_event is not None else None
        values = key is not None and self._get_asset_entry_values(
            event, event_id, self._has_asset_key_index_cols_on_connection(conn)
        )
        if key is not None and values:
            known = {"known": key.to_string(), **values}
            if conn.execute(_MADE_AGAIN, known).rowcount:
                return
        super()._store_asset_event(conn, event, event_id)

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
        # What a run is going to make and judge is told as one batch, not event by event, where this says so.
        os.environ.setdefault(_BATCH_SIZE, "100")
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
