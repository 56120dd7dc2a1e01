"""Removing what Dagster has kept for long enough.

Holds: :func:`purge_old_runs`. Old runs go with everything that is theirs: Dagster's own deletion leaves
a run's step files, event file and asset-check rows behind. So do old ticks, and what runs left that
are no longer listed (deleted by hand, or by a process that ended in the middle). What stays whatever
its age: of each partition the newest run that succeeded (the UI knows from it which days were
summarised), and of each check the last completed result (health is read from it). On SQLite a file
that is mostly empty afterwards is made small again; PostgreSQL uses the space anew by itself. The calls
that reach into Dagster's storage are not public; a test holds them to what they promise. Do not
add: anything of the pool's own data.

Source: architecture.md, fact 8.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.schedules.schema import JobTickTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage

from warmup_pipeline.orchestration.names import PARTITION_TAG

DEFAULT_KEEP_DAYS: Final = 14
_BATCH: Final = 200
EVENT_FILE_SUFFIXES: Final = (".db", ".db-wal", ".db-shm", ".db-journal")
RUN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORTH_IT: Final = 4_000_000
_MOSTLY_EMPTY: Final = 0.3
"""A file of which less than this share, or fewer bytes, are free is left as it is."""
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed.

    Attributes:
        runs: ended runs, with everything that was theirs.
        ticks: ticks of sensors and schedules.
        left_behind: runs no longer listed of which files or rows were still there.
        freed: bytes that emptied SQLite files gave back.
    """

    runs: int = 0
    ticks: int = 0
    left_behind: int = 0
    freed: int = 0

    def numbers(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def purge_old_runs(
    instance: dg.DagsterInstance,
    *,
    keep_days: int,
    but_not: str | None = None,
    batch: int = _BATCH,
    now: datetime | None = None,
) -> Purged:
    """Remove ended runs older than ``keep_days`` days and what belongs to them, and old ticks.

    It may be ended at any moment: what was begun is completed by the next one.

    Args:
        instance: the Dagster instance.
        keep_days: runs whose record changed within so many days stay, and ticks of these days.
        but_not: a run that stays whatever its age (the one that purges).
        batch: runs looked at per query.
        now: the time that ages are counted from; the real one unless given.
    """
    before = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    # All are found before the first is removed: the listing goes on from the last run of a page, and
    # from a run that is no longer there it would not go on at all.
    doomed = list(_old_runs(instance, before, but_not, batch))
    for run_id in doomed:
        _remove(instance, run_id)
    for start in range(0, len(doomed), batch):
        _remove_check_rows(instance, doomed[start : start + batch])
    left_behind = _remove_left_behind(instance, before)
    return Purged(len(doomed), _remove_ticks(instance, before), left_behind, _give_back(instance))


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
    _remove_files(instance, run_id)


def _event_files(instance: dg.DagsterInstance) -> Path:
    return Path(instance.storage_directory()).parent / "history" / "runs"


def _remove_files(instance: dg.DagsterInstance, run_id: str) -> None:
    shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    for suffix in EVENT_FILE_SUFFIXES:
        (_event_files(instance) / f"{run_id}{suffix}").unlink(missing_ok=True)


def _remove_left_behind(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove files and check rows of runs that are not listed (any more); returns of how many runs.

    A file that changed lately stays: its run may just be beginning.
    """
    listed = _listed(instance)
    found = {
        run_id
        for folder in (Path(instance.storage_directory()), _event_files(instance))
        if folder.is_dir()
        for entry in folder.iterdir()
        if (run_id := entry.name.split(".", 1)[0]) not in listed
        and RUN_ID.fullmatch(run_id)
        and entry.stat().st_mtime < before.timestamp()
    }
    for run_id in found:
        _remove_files(instance, run_id)
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):
        rows = AssetCheckExecutionsTable
        with storage.index_connection() as connection:
            known = set(connection.execute(sa.select(rows.c.run_id).distinct()).scalars())
        without_run = sorted(known - listed)
        for start in range(0, len(without_run), _BATCH):
            _remove_check_rows(instance, without_run[start : start + _BATCH])
    return len(found)


def _listed(instance: dg.DagsterInstance) -> set[str]:
    listed: set[str] = set()
    cursor: str | None = None
    while ids := instance.get_run_ids(cursor=cursor, limit=10 * _BATCH):
        listed.update(ids)
        cursor = ids[-1]
    return listed


def _remove_ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    storage = instance.schedule_storage
    if not isinstance(storage, SqlScheduleStorage):
        return 0
    with storage.connect() as connection:
        done = connection.execute(sa.delete(JobTickTable).where(JobTickTable.c.timestamp < before))
    return int(done.rowcount)


def _give_back(instance: dg.DagsterInstance) -> int:
    """Make SQLite files small again that are large and mostly empty; returns the bytes given back.

    One that somebody else is using right now is left for another night: its free pages are used first. Of
    every file the write-ahead log is taken up, which otherwise stays as long as it once was.
    """
    freed = 0
    for connect in _databases(instance):
        with connect() as connection:
            if connection.dialect.name != "sqlite":
                continue
            free, pages, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("freelist_count", "page_count", "page_size")
            )
            # Neither runs inside a transaction, and SQLAlchemy begins one by itself.
            raw = connection.connection.driver_connection
            if not isinstance(raw, sqlite3.Connection):
                continue
            raw.rollback()
            try:
                if free * size >= _WORTH_IT and free >= pages * _MOSTLY_EMPTY:
                    raw.execute("VACUUM")
                    freed += free * size
                _take_up_log(raw)
            except sqlite3.OperationalError:
                continue
    return freed


def _take_up_log(raw: sqlite3.Connection) -> None:
    """Take up the write-ahead log and make it empty, unless somebody is reading it: nobody waits for this."""
    (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        raw.execute(f"PRAGMA busy_timeout = {int(patience)}")


def _databases(instance: dg.DagsterInstance) -> Iterator[Callable[[], AbstractContextManager[sa.Connection]]]:
    if isinstance(instance.run_storage, SqlRunStorage):
        yield instance.run_storage.connect
    if isinstance(instance.event_log_storage, SqlEventLogStorage):
        yield instance.event_log_storage.index_connection
    if isinstance(instance.schedule_storage, SqlScheduleStorage):
        yield instance.schedule_storage.connect


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
