"""Removing old runs.

Holds: :func:`purge_old_runs`. Dagster's own deletion of a run leaves its step files, its event file
and its asset-check rows behind; they go here as well. What stays whatever its age: of each partition
the newest run that succeeded (the UI knows from it which days were summarised), and of each check the
last completed result (health is read from it). The calls that reach into Dagster's event storage are
not public; a test holds them to what they promise. Do not add: anything of the pool's own data.

Source: architecture.md, fact 8.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from warmup_pipeline.orchestration.names import PARTITION_TAG

DEFAULT_KEEP_DAYS: Final = 14
_BATCH: Final = 200
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def purge_old_runs(
    instance: dg.DagsterInstance, *, keep_days: int, but_not: str | None = None, batch: int = _BATCH
) -> int:
    """Remove ended runs older than ``keep_days`` days and what belongs to them; returns how many.

    Args:
        instance: the Dagster instance.
        keep_days: runs whose record changed within so many days stay.
        but_not: a run that stays whatever its age (the one that purges).
        batch: runs looked at per query.
    """
    before = datetime.now(UTC) - timedelta(days=keep_days)
    # All are found before the first is removed: the listing goes on from the last run of a page, and
    # from a run that is no longer there it would not go on at all.
    doomed = list(_old_runs(instance, before, but_not, batch))
    for run_id in doomed:
        _remove(instance, run_id)
    for start in range(0, len(doomed), batch):
        _remove_check_rows(instance, doomed[start : start + batch])
    return len(doomed)


def _old_runs(
    instance: dg.DagsterInstance, before: datetime, but_not: str | None, batch: int
) -> Iterator[str]:
    summarised: set[str] = set()
    cursor: str | None = None
    # Newest first over all runs, so that the first success seen of a partition is the one that stays.
    while records := instance.get_run_records(
        filters=dg.RunsFilter(statuses=_ENDED), cursor=cursor, limit=batch
    ):
        cursor = records[-1].dagster_run.run_id
        for record in records:
            run = record.dagster_run
            day = run.tags.get(PARTITION_TAG)
            stays = run.run_id == but_not
            if day is not None and day not in summarised and run.status is dg.DagsterRunStatus.SUCCESS:
                summarised.add(day)
                stays = True
            if not stays and _utc(record.update_timestamp) < before:
                yield run.run_id


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _remove(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.delete_run(run_id)
    root = Path(instance.storage_directory())
    shutil.rmtree(root / run_id, ignore_errors=True)
    for leftover in (root.parent / "history" / "runs").glob(f"{run_id}.db*"):
        leftover.unlink(missing_ok=True)


def _remove_check_rows(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return
    rows = AssetCheckExecutionsTable
    completed = [status.value for status in COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES]
    last = (
        sa.select(sa.func.max(rows.c.id))
        .where(rows.c.execution_status.in_(completed))
        .group_by(rows.c.asset_key, rows.c.check_name)
    )
    with storage.index_connection() as connection:
        kept = {row[0] for row in connection.execute(last)}
        connection.execute(sa.delete(rows).where(rows.c.run_id.in_(run_ids), rows.c.id.not_in(kept)))
