"""Removing old runs.

Holds: :func:`purge_old_runs`. Deleting a run with Dagster's own call leaves its files behind: they
are removed here as well. The newest run of each partition stays, so that the UI still knows which
days were summarised.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg

from warmup_pipeline.orchestration.names import PARTITION_TAG

DEFAULT_KEEP_DAYS: Final = 14
_BATCH: Final = 200


def purge_old_runs(instance: dg.DagsterInstance, *, keep_days: int, but_not: str | None = None) -> int:
    """Remove ended runs older than ``keep_days`` days and their files; returns how many.

    Args:
        instance: the Dagster instance.
        keep_days: runs younger than this stay.
        but_not: a run that stays whatever its age (the one that purges).
    """
    before = datetime.now(UTC) - timedelta(days=keep_days)
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    newest: set[str] = set()
    removed = 0
    cursor: str | None = None
    # Newest first over all runs, so that the first one seen of a partition is the one that stays.
    while True:
        runs = instance.get_runs(filters=dg.RunsFilter(statuses=ended), cursor=cursor, limit=_BATCH)
        if not runs:
            return removed
        cursor = runs[-1].run_id
        old = {
            record.dagster_run.run_id
            for record in instance.get_run_records(
                filters=dg.RunsFilter(run_ids=[run.run_id for run in runs], updated_before=before)
            )
        }
        for run in runs:
            day = run.tags.get(PARTITION_TAG)
            first = day is not None and day not in newest
            if day is not None:
                newest.add(day)
            if run.run_id in old and not first and run.run_id != but_not:
                _remove(instance, run.run_id)
                removed += 1


def _remove(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.delete_run(run_id)
    root = Path(instance.storage_directory())
    shutil.rmtree(root / run_id, ignore_errors=True)
    for leftover in (root.parent / "history" / "runs").glob(f"{run_id}.db*"):
        leftover.unlink(missing_ok=True)
