"""Dagster's own PostgreSQL storage, with its database connections kept open.

Holds: :class:`KeptPostgresStorage`, which ``deploy/*/dagster.yaml`` name. Tables and texts are those of
Dagster's ``DagsterPostgresStorage``. Dagster's opens a connection for every event and every question, and
keeps one only in its webserver; a cycle's run of 150 events took twice as long as with kept ones. How the
webserver keeps them is used here for every process: a test counts the connections of a run. Nor is asked again
what cannot have changed (``fewer_questions``). How an event is stored is not public; a test compares the
rows. Do not add: tables, queries.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self, cast

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy import event as sa_event
from sqlalchemy.engine import Connection
from sqlalchemy.pool import ConnectionPoolEntry

from warmup_pipeline.orchestration.fewer_questions import FewerQuestions

STATEMENT_TIMEOUT_MS: Final = 300_000
"""No question of Dagster's takes longer; the nightly purge deletes run by run."""

RECYCLED_AFTER_S: Final = 1800
"""A connection older than this is opened anew: firewalls and failovers forget old ones."""

MORE_AT_ONCE: Final = 20
"""Connections that threads of one process may have beside the kept one (the daemon's, the code server's)."""


class _EventLog(FewerQuestions, PostgresEventLogStorage):
    """Events of all runs, each stored in one transaction instead of one for every statement."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._of_thread = threading.local()
        super().__init__(*args, **more)

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Keep connections, on which a commit does not wait for the server's disk."""
        super().optimize_for_webserver(statement_timeout, pool_recycle, max_overflow)
        sa_event.listen(self._engine, "connect", _commit_without_waiting)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        opened: Connection | None = getattr(self._of_thread, "opened", None)
        if opened is not None:
            yield opened
        else:
            with super()._connect() as connection:
                yield connection

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event with all that is known of its asset or check, or nothing."""
        # Not a batch of them: its transaction would keep the rows of assets from other pools' runs for as long.
        with self.index_transaction() as connection:
            self._of_thread.opened = connection
            try:
                super().store_event(event)
            finally:
                self._of_thread.opened = None


def _commit_without_waiting(connection: Any, _: ConnectionPoolEntry) -> None:
    # As the embedded history does (`synchronous=NORMAL`): a crash of the server may take the last half second of
    # events, and no more than that. A later commit that waits takes them along to the disk: a run's own state is
    # kept by one, so what led to its end is there when the end is.
    with connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")


class KeptPostgresStorage(DagsterPostgresStorage):
    """What ``dagster.yaml`` names: runs, events and ticks on PostgreSQL, each with a kept connection."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._event_log_storage = _EventLog(
            self.postgres_url, self.should_autocreate_tables, token_provider=more.get("token_provider")
        )
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage.optimize_for_webserver(
                statement_timeout=STATEMENT_TIMEOUT_MS,
                pool_recycle=RECYCLED_AFTER_S,
                max_overflow=MORE_AT_ONCE,
            )

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Return the storage as ``dagster.yaml`` says: like Dagster's own, of this class."""
        told = DagsterPostgresStorage.from_config_value(
            inst_data, cast("PostgresStorageConfig", config_value)
        )
        return cls(
            postgres_url=told.postgres_url,
            should_autocreate_tables=told.should_autocreate_tables,
            inst_data=inst_data,
        )
