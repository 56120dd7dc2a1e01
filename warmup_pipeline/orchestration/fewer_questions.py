"""What Dagster's event log asks its database again and again, asked once or not at all.

Holds: :class:`FewerQuestions`, which the events of both storages mix in. Dagster looks up whether its tables
have been migrated for every materialization and every question about an asset, asks for
materializations that it has in its hands already, and, for every result of a check, for what to do with a
materialization that does not exist. The methods it overrides are not public; tests compare what either storage
says with what Dagster's own says. Do not add: tables, what may change while a process lives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, EventRecordsResult
from dagster._core.event_api import EventLogCursor, EventLogRecord
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    _Sql = SqlEventLogStorage
else:
    _Sql = object

_events = SqlEventLogStorageTable.c
_MADE_OF_PARTITION = (
    sa.select(_events.id)
    .where(
        _events.asset_key == sa.bindparam("made"),
        _events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value,
        _events.partition == sa.bindparam("of"),
    )
    .limit(1)
)


class FewerQuestions(_Sql):
    """A table, a column or a migration that is there stays: only what is missing is asked for again."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._there: set[tuple[str, str]] = set()
        super().__init__(*args, **more)  # type: ignore[no-untyped-call]

    def has_table(self, table_name: str) -> bool:
        """Whether there is a table."""
        if ("table", table_name) not in self._there and super().has_table(  # type: ignore[safe-super]
            table_name
        ):
            self._there.add(("table", table_name))
        return ("table", table_name) in self._there

    def has_asset_key_col(self, column_name: str) -> bool:
        """Whether the table of assets has a column."""
        return ("column", column_name) in self._there or super().has_asset_key_col(column_name)

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        if ("column", column_name) not in self._there and super()._has_asset_key_col_on_connection(
            conn, column_name
        ):
            self._there.add(("column", column_name))
        return ("column", column_name) in self._there

    def has_secondary_index(self, name: str) -> bool:
        """Whether a migration of the data has been completed."""
        if ("migration", name) not in self._there and super().has_secondary_index(name):
            self._there.add(("migration", name))
        return ("migration", name) in self._there

    def fetch_materializations(
        self,
        records_filter: AssetKey | AssetRecordsFilter,
        limit: int,
        cursor: str | None = None,
        ascending: bool = False,
    ) -> EventRecordsResult:
        """Return materializations: none at once, of a partition that has none.

        A check's result names the materialization that it judged. Dagster looks for the run's partition; an asset
        that has no partitions never has one.
        """
        if isinstance(records_filter, AssetRecordsFilter) and limit == 1 and cursor is None:
            partitions = records_filter.asset_partitions or ()
            if len(partitions) == 1:
                asked = {"made": records_filter.asset_key.to_string(), "of": partitions[0]}
                with self.index_connection() as conn:
                    if conn.execute(_MADE_OF_PARTITION, asked).first() is None:
                        return EventRecordsResult(
                            [], EventLogCursor.from_storage_id(-1).to_string(), has_more=False
                        )
        return super().fetch_materializations(records_filter, limit, cursor, ascending)

    def _get_latest_materialization_records(
        self, raw_asset_rows: Sequence[Mapping[str, Any]]
    ) -> Mapping[AssetKey, EventLogRecord | None]:
        found: dict[AssetKey, EventLogRecord | None] = {}
        others = []
        for row in raw_asset_rows:
            # Of an asset that was never wiped the row has the newest one.
            written = None if row["asset_details"] else row["last_materialization"]
            record = deserialize_value(written) if written else None
            key = AssetKey.from_db_string(row["asset_key"])
            if key is not None and isinstance(record, EventLogRecord):
                found[key] = record
            else:
                others.append(row)
        return {**found, **super()._get_latest_materialization_records(others)} if others else found
