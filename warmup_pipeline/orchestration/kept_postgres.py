"""Dagster's own PostgreSQL storage, with its database connections kept open.

Holds: :class:`KeptPostgresStorage`, which ``deploy/*/dagster.yaml`` name. Tables and texts are those of
Dagster's ``DagsterPostgresStorage``. Dagster's opens a connection for every event and every question, and
keeps one only in its webserver; a cycle's run of 150 events took twice as long as with kept ones. How the
webserver keeps them is used here for every process: a test counts the connections of a run. Do not add:
tables, queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self, cast

from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

STATEMENT_TIMEOUT_MS: Final = 300_000
"""No question of Dagster's takes longer; the nightly purge deletes run by run."""

RECYCLED_AFTER_S: Final = 1800
"""A connection older than this is opened anew: firewalls and failovers forget old ones."""

MORE_AT_ONCE: Final = 20
"""Connections that threads of one process may have beside the kept one (the daemon's, the code server's)."""


class KeptPostgresStorage(DagsterPostgresStorage):
    """What ``dagster.yaml`` names: runs, events and ticks on PostgreSQL, each with a kept connection."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
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
